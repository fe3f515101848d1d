// A small encoder with fresh weights on `rte`: see _recipe/scratch.libsonnet.
(import '../_recipe/scratch.libsonnet') + {
  data_reader: { dataset: 'rte', rte: { max_seq_length: 128 } },
  model: { name: 'bert_for_seq_cls', bert_for_seq_cls: (import '../_recipe/scratch_encoder.libsonnet') },
}
