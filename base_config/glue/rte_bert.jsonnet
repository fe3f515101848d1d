// GLUE RTE with BERT, base or large: see _recipe/bert.libsonnet.
(import '../_recipe/bert.libsonnet') + {
  data_reader: { dataset: 'rte', rte: { max_seq_length: 128 } },
  model: { name: 'bert_for_seq_cls', bert_for_seq_cls: { pretrained_model_name: 'bert-base-cased' } },
}
