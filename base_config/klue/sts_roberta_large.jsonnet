// KLUE STS with RoBERTa large: length 128, batch 32, 2e-5, 4 epochs, warm-up over 0.1, by pearson:
// see _recipe/klue_baseline.libsonnet.
(import '../_recipe/klue_baseline.libsonnet') + {
  data_reader: { dataset: 'klue_sts', klue_sts: { max_seq_length: 128 } },
  model: { name: 'roberta_for_reg', roberta_for_reg: { pretrained_model_name: 'klue/roberta-large' } },
  trainer+: { metric_key: 'pearson' },
  optimizer+: { learning_rate: 2e-5 },
}
