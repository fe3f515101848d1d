// KLUE RE with RoBERTa large: length 256, batch 16, 2e-5, 10 epochs, warm-up over 0.2, by micro_f1:
// see _recipe/klue_baseline.libsonnet.
// KLUE-baseline ran this on two GPUs; 16 is taken for the whole batch.
(import '../_recipe/klue_baseline.libsonnet') + {
  data_reader: { dataset: 'klue_re', klue_re: { max_seq_length: 256 } },
  model: { name: 'roberta_for_seq_cls', roberta_for_seq_cls: { pretrained_model_name: 'klue/roberta-large' } },
  iterator+: { batch_size: 16 },
  trainer+: { num_epochs: 10, early_stopping_threshold: null, metric_key: 'micro_f1' },
  optimizer+: { learning_rate: 2e-5, warmup_linear: { warmup_proportion: 0.2 } },
}
