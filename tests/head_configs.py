"""A BaseConfig for each head."""

CONFIGS = {
    "classify": ("glue/mrpc_bert",),
    "san": ("glue/mrpc_bert", "--model.name", "bert_for_san"),
    "regress": ("glue/stsb_bert",),
    "tag": ("klue/ner_bert",),
    "span": ("klue/korquad_bert",),
    "choice": ("jglue/jcommonsenseqa_bert",),
    "parse": ("klue/dp_bert",),
    "dialogue": ("klue/wos_bert",),
}
"""Head → the BaseConfig, and what is set besides."""
