// A small encoder with fresh weights on `wnut17`: see _recipe/scratch.libsonnet.
(import '../_recipe/scratch.libsonnet') + {
  data_reader: { dataset: 'wnut17', wnut17: { max_seq_length: 128 } },
  model: { name: 'bert_for_tok_cls', bert_for_tok_cls: (import '../_recipe/scratch_encoder.libsonnet') },
}
