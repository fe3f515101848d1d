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
    "clm": ("glue/mrpc_bert", "--dataset", "continued_text", "--model.name", "clm"),
    "instruct": ("glue/mrpc_bert", "--dataset", "korean_chat", "--model.name", "instruct"),
    "embed": ("embed/korsts_cosine",),
    "embed_softmax": ("embed/klue_nli_alone",),
    "embed_in_batch": ("embed/korquad_in_batch",),
    "rank": ("glue/mrpc_bert", "--model.name", "rank"),
    "rank_causal": ("glue/mrpc_bert", "--model.name", "rank_causal", "--prompt_shots", "1", "--max_seq_length", "128"),
    "rank_mask": ("glue/mrpc_bert", "--model.name", "rank_mask", "--label_words", '{"0": "bad", "1": "good"}'),
}
"""Head → the BaseConfig, and what is set besides."""

MODELS = {
    "clm": {"model_type": "gpt_neox", "auto_class": "AutoModelForCausalLM"},
    "instruct": {"model_type": "llama", "auto_class": "AutoModelForCausalLM"},
    "rank": {"model_type": "t5", "auto_class": "AutoModelForSeq2SeqLM"},
    "rank_causal": {"model_type": "gpt2", "auto_class": "AutoModelForCausalLM"},
    "rank_mask": {"auto_class": "AutoModelForMaskedLM"},
}
"""Head → the kind of model that it needs, where that is not an encoder alone."""

CORPUS_HEADS = {"tsdae"}
"""Heads that only a pre-training uses: they are tried in `tests/pretraining`."""
