// KLUE TC (YNAT) with RoBERTa large: length 128, batch 32, 5e-5, 4 epochs, warm-up over 0.2, by macro_f1:
// see _recipe/klue_baseline.libsonnet.
(import '../_recipe/klue_baseline.libsonnet') + {
  data_reader: { dataset: 'ynat', ynat: { max_seq_length: 128 } },
  model: { name: 'roberta_for_seq_cls', roberta_for_seq_cls: { pretrained_model_name: 'klue/roberta-large' } },
  trainer+: { early_stopping_threshold: null, metric_key: 'macro_f1' },
  optimizer+: { warmup_linear: { warmup_proportion: 0.2 } },
}
