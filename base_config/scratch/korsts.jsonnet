// A small encoder with fresh weights on `korsts`: see _recipe/scratch.libsonnet.
(import '../_recipe/scratch.libsonnet') + {
  data_reader: { dataset: 'korsts', korsts: { max_seq_length: 96 } },
  model: { name: 'bert_for_reg', bert_for_reg: (import '../_recipe/scratch_encoder.libsonnet') },
  trainer+: { num_epochs: 10 },
}
