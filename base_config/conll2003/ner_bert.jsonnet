// CoNLL-2003 by CLaF's recipe and that of transformers' token-classification example: length 128, batch 32, 2e-5, 3 epochs:
// see _recipe/bert.libsonnet.
(import '../_recipe/bert.libsonnet') + {
  data_reader: { dataset: 'conll2003', conll2003: { max_seq_length: 128 } },
  model: { name: 'bert_for_tok_cls', bert_for_tok_cls: { pretrained_model_name: 'bert-base-cased' } },
}
