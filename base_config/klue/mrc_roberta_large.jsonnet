// KLUE MRC with RoBERTa large: length 510, batch 16, 3e-5, 5 epochs, no warm-up, by rouge_w:
// see _recipe/klue_baseline.libsonnet.
(import '../_recipe/klue_baseline.libsonnet') + {
  data_reader: { dataset: 'klue_mrc', klue_mrc: { max_seq_length: 510, context_stride: 128, max_question_length: 64 } },
  model: { name: 'roberta_for_qa', roberta_for_qa: { pretrained_model_name: 'klue/roberta-large', answer_maxlen: 30, n_best_size: 20, null_threshold: 0.0 } },
  iterator+: { batch_size: 16 },
  trainer+: { num_epochs: 5, early_stopping_threshold: null, metric_key: 'rouge_w' },
  optimizer+: { learning_rate: 3e-5, warmup_linear: { warmup_proportion: 0.0 } },
}
