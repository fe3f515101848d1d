// KLUE DST (WoS) with a small encoder made from scratch: see _recipe/scratch.libsonnet.
(import '../_recipe/scratch.libsonnet') + {
  data_reader: { dataset: 'wos', wos: { max_seq_length: 256 } },
  model: { name: 'bert_for_dst', bert_for_dst: (import '../_recipe/scratch_encoder.libsonnet') },
}
