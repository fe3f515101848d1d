// KorSTS as KoELECTRA fine-tunes it, 10 epochs: see _recipe/koelectra.libsonnet.
(import '../_recipe/koelectra.libsonnet') + {
  data_reader: { dataset: 'korsts', korsts: { max_seq_length: 128 } },
  model: { name: 'bert_for_reg', bert_for_reg: { pretrained_model_name: 'klue/bert-base' } },
  trainer+: { metric_key: 'spearman' },
}
