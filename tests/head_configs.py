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
    "mlm": ("glue/mrpc_bert", "--dataset", "masked_text", "--model.name", "encoder"),
    "mlm_nsp": ("glue/mrpc_bert", "--dataset", "masked_pairs", "--model.name", "encoder"),
}
"""Head → the BaseConfig, and what is set besides."""
