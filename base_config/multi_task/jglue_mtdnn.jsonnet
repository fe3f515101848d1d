// MT-DNN on JGLUE but for MARC-ja, whose data are no longer given out: see _recipe/mtdnn.libsonnet.
(import '../_recipe/mtdnn.libsonnet') + {
  tasks: {
    jcola: { base_config: 'jglue/jcola_bert' },
    jsts: { base_config: 'jglue/jsts_bert' },
    jnli: { base_config: 'jglue/jnli_bert' },
    jsquad: { base_config: 'jglue/jsquad_bert' },
    jcommonsenseqa: { base_config: 'jglue/jcommonsenseqa_bert' },
  },
  model: { name: 'bert_for_multi', bert_for_multi: { pretrained_model_name: 'tohoku-nlp/bert-base-japanese-v3' } },
}
