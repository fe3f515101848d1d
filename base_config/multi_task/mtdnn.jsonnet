// MT-DNN on tasks named with --tasks: see _recipe/mtdnn.libsonnet.
(import '../_recipe/mtdnn.libsonnet') + {
  tasks: {},
  model: { name: 'bert_for_multi', bert_for_multi: { pretrained_model_name: 'bert-base-cased' } },
}
