// KLUE DST (WoS) with RoBERTa large: length 510, batch 8 twice a step, 2e-5, 5 epochs, warm-up over 0.1, by slot_micro_f1:
// see _recipe/klue_baseline.libsonnet.
(import '../_recipe/klue_baseline.libsonnet') + {
  data_reader: { dataset: 'wos', wos: { max_seq_length: 510 } },
  model: { name: 'roberta_for_dst', roberta_for_dst: { pretrained_model_name: 'klue/roberta-large', teacher_forcing: 0.5, value_maxlen: 10 } },
  iterator+: { batch_size: 8, eval_batch_size: 16 },
  trainer+: { num_epochs: 5, early_stopping_threshold: null, gradient_accumulation_steps: 2, metric_key: 'slot_micro_f1' },
  optimizer+: { learning_rate: 2e-5, adamw+: { weight_decay: 0.01 } },
}
