// MT-DNN on KLUE: see _recipe/mtdnn.libsonnet. Dialogues (wos) are left out: their inputs are four times as long as the others'.
(import '../_recipe/mtdnn.libsonnet') + {
  tasks: {
    ynat: { base_config: 'klue/ynat_bert' },
    klue_sts: { base_config: 'klue/sts_bert' },
    klue_nli: { base_config: 'klue/nli_bert' },
    klue_ner: { base_config: 'klue/ner_bert' },
    klue_re: { base_config: 'klue/re_bert' },
    klue_dp: { base_config: 'klue/dp_bert' },
    klue_mrc: { base_config: 'klue/mrc_bert' },
  },
  model: { name: 'bert_for_multi', bert_for_multi: { pretrained_model_name: 'klue/bert-base' } },
}
