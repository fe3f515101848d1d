// A small encoder with fresh weights on `korquad`: see _recipe/scratch.libsonnet.
(import '../_recipe/scratch.libsonnet') + {
  data_reader: { dataset: 'korquad', korquad: { max_seq_length: 384 } },
  model: { name: 'bert_for_qa', bert_for_qa: (import '../_recipe/scratch_encoder.libsonnet') },
  trainer+: { num_epochs: 6 },
  optimizer+: { learning_rate: 1e-3 },
}
