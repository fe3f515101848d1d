// MT-DNN on the public stand-ins for LaRva's KLUE (docs/larva_klue.md): see _recipe/mtdnn.libsonnet.
(import '../_recipe/mtdnn.libsonnet') + {
  tasks: {
    korquad: { base_config: 'klue/korquad_bert' },
    nsmc: { base_config: 'klue/nsmc_bert' },
    question_pair: { base_config: 'klue/question_pair_bert' },
    korsts: { base_config: 'klue/korsts_bert' },
    kornli: { base_config: 'klue/kornli_bert' },
    paws_ko: { base_config: 'klue/paws_ko_bert' },
  },
  model: { name: 'bert_for_multi', bert_for_multi: { pretrained_model_name: 'klue/bert-base' } },
}
