// KLUE TC (YNAT) with BERT base: length 128, batch 32, 5e-5, 4 epochs, warm-up over 0.1, by macro_f1:
// see _recipe/klue_baseline.libsonnet.
(import '../_recipe/klue_baseline.libsonnet') + {
  data_reader: { dataset: 'ynat', ynat: { max_seq_length: 128 } },
  model: { name: 'bert_for_seq_cls', bert_for_seq_cls: { pretrained_model_name: 'klue/bert-base' } },
  trainer+: { early_stopping_threshold: null, metric_key: 'macro_f1' },
}
