// KLUE DP with RoBERTa small or base: length 256, batch 32, 5e-5, 10 epochs, warm-up over 0.1, by las_macro_f1:
// see _recipe/klue_baseline.libsonnet.
(import '../_recipe/klue_baseline.libsonnet') + {
  data_reader: { dataset: 'klue_dp', klue_dp: { max_seq_length: 256 } },
  model: { name: 'roberta_for_parse', roberta_for_parse: { pretrained_model_name: 'klue/roberta-base', hidden_size: 768, head_size: 512, relation_size: 256, pos_size: 256 } },
  trainer+: { num_epochs: 10, early_stopping_threshold: null, metric_key: 'las_macro_f1' },
}
