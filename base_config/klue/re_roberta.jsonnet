// KLUE RE with RoBERTa small or base: length 256, batch 32, 5e-5, 3 epochs, warm-up over 0.1, by micro_f1:
// see _recipe/klue_baseline.libsonnet.
(import '../_recipe/klue_baseline.libsonnet') + {
  data_reader: { dataset: 'klue_re', klue_re: { max_seq_length: 256 } },
  model: { name: 'roberta_for_seq_cls', roberta_for_seq_cls: { pretrained_model_name: 'klue/roberta-base' } },
  trainer+: { num_epochs: 3, early_stopping_threshold: null, metric_key: 'micro_f1' },
}
