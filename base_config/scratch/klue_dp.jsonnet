// KLUE DP with a small encoder made from scratch: see _recipe/scratch.libsonnet.
(import '../_recipe/scratch.libsonnet') + {
  data_reader: { dataset: 'klue_dp', klue_dp: { max_seq_length: 256 } },
  model: { name: 'bert_for_parse', bert_for_parse: (import '../_recipe/scratch_encoder.libsonnet') + {
    hidden_size: 128, head_size: 128, relation_size: 64, pos_size: 32,
  } },
}
