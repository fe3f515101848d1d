// KLUE STS with BERT base: length 128, batch 32, 5e-5, 4 epochs, warm-up over 0.1, by pearson:
// see _recipe/klue_baseline.libsonnet.
(import '../_recipe/klue_baseline.libsonnet') + {
  data_reader: { dataset: 'klue_sts', klue_sts: { max_seq_length: 128 } },
  model: { name: 'bert_for_reg', bert_for_reg: { pretrained_model_name: 'klue/bert-base' } },
  trainer+: { metric_key: 'pearson' },
}
