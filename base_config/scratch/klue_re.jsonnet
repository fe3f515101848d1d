// KLUE RE with a small encoder made from scratch: see _recipe/scratch.libsonnet.
(import '../_recipe/scratch.libsonnet') + {
  data_reader: { dataset: 'klue_re', klue_re: { max_seq_length: 256 } },
  model: { name: 'bert_for_seq_cls', bert_for_seq_cls: (import '../_recipe/scratch_encoder.libsonnet') },
}
