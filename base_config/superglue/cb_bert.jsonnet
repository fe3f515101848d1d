// SuperGLUE CB by the recipe of RTE, at length 256: see _recipe/bert.libsonnet. Not SuperGLUE's own, which is jiant's.
(import '../_recipe/bert.libsonnet') + {
  data_reader: { dataset: 'cb', cb: { max_seq_length: 256 } },
  model: { name: 'bert_for_seq_cls', bert_for_seq_cls: { pretrained_model_name: 'bert-base-cased' } },
}
