// KLUE DST (WoS) with BERT base: length 510, batch 16, 3e-5, 5 epochs, warm-up over 0.1, by slot_micro_f1:
// see _recipe/klue_baseline.libsonnet.
(import '../_recipe/klue_baseline.libsonnet') + {
  data_reader: { dataset: 'wos', wos: { max_seq_length: 510 } },
  model: { name: 'bert_for_dst', bert_for_dst: { pretrained_model_name: 'klue/bert-base', teacher_forcing: 0.5, value_maxlen: 10 } },
  iterator+: { batch_size: 16, eval_batch_size: 16 },
  trainer+: { num_epochs: 5, early_stopping_threshold: null, metric_key: 'slot_micro_f1' },
  optimizer+: { learning_rate: 3e-5, adamw+: { weight_decay: 0.01 } },
}
