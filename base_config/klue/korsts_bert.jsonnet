// KorSTS by the recipe of its original, STS-B (KorSTS is a translation): see _recipe/bert.libsonnet. Selected by Spearman.
(import '../_recipe/bert.libsonnet') + {
  data_reader: { dataset: 'korsts', korsts: { max_seq_length: 128 } },
  model: { name: 'bert_for_reg', bert_for_reg: { pretrained_model_name: 'klue/bert-base' } },
  trainer+: { metric_key: 'spearman' },
}
