// A small encoder with fresh weights on `klue_ner`: see _recipe/scratch.libsonnet.
(import '../_recipe/scratch.libsonnet') + {
  data_reader: { dataset: 'klue_ner', klue_ner: { max_seq_length: 256 } },
  model: { name: 'bert_for_tok_cls', bert_for_tok_cls: (import '../_recipe/scratch_encoder.libsonnet') },
  trainer+: { num_epochs: 8 },
}
