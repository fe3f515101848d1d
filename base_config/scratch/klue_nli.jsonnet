// A small encoder with fresh weights on `klue_nli`: see _recipe/scratch.libsonnet.
(import '../_recipe/scratch.libsonnet') + {
  data_reader: { dataset: 'klue_nli', klue_nli: { max_seq_length: 96 } },
  model: { name: 'bert_for_seq_cls', bert_for_seq_cls: (import '../_recipe/scratch_encoder.libsonnet') },
}
