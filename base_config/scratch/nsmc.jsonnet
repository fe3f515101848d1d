// A small encoder with fresh weights on `nsmc`: see _recipe/scratch.libsonnet.
(import '../_recipe/scratch.libsonnet') + {
  data_reader: { dataset: 'nsmc', nsmc: { max_seq_length: 64 } },
  model: { name: 'bert_for_seq_cls', bert_for_seq_cls: (import '../_recipe/scratch_encoder.libsonnet') },
  trainer+: { num_epochs: 3 },
}
