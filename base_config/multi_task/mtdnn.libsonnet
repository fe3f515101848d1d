// MT-DNN on tasks named with --tasks, without which it is not complete: see _recipe/mtdnn.libsonnet.
(import '../_recipe/mtdnn.libsonnet') + {
  tasks: {},
  model: { name: 'bert_for_multi', bert_for_multi: { pretrained_model_name: 'bert-base-cased' } },
}
