// KLUE DST (WoS) with a small encoder made from scratch: see _recipe/scratch.libsonnet. Wider initial weights than usual, without which the
// attention over the dialogue takes long to form.
(import '../_recipe/scratch.libsonnet') + {
  data_reader: { dataset: 'wos', wos: { max_seq_length: 256 } },
  model: { name: 'bert_for_dst', bert_for_dst: (import '../_recipe/scratch_encoder.libsonnet') + {
    architecture+: { initializer_range: 0.1 },
  } },
  iterator: { batch_size: 8 },
  trainer+: { num_epochs: 10 },
  optimizer+: { learning_rate: 1e-3 },
}
