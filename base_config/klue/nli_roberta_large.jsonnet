// KLUE NLI with RoBERTa large: length 128, batch 32, 5e-5, 5 epochs, warm-up over 0.2, by accuracy:
// see _recipe/klue_baseline.libsonnet.
(import '../_recipe/klue_baseline.libsonnet') + {
  data_reader: { dataset: 'klue_nli', klue_nli: { max_seq_length: 128 } },
  model: { name: 'roberta_for_seq_cls', roberta_for_seq_cls: { pretrained_model_name: 'klue/roberta-large' } },
  trainer+: { num_epochs: 5, metric_key: 'accuracy' },
  optimizer+: { warmup_linear: { warmup_proportion: 0.2 } },
}
