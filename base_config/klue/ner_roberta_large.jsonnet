// KLUE NER with RoBERTa large: length 510, batch 8, 1e-5, 3 epochs, no warm-up, by char_macro_f1:
// see _recipe/klue_baseline.libsonnet.
(import '../_recipe/klue_baseline.libsonnet') + {
  data_reader: { dataset: 'klue_ner', klue_ner: { max_seq_length: 510 } },
  model: { name: 'roberta_for_tok_cls', roberta_for_tok_cls: { pretrained_model_name: 'klue/roberta-large' } },
  iterator+: { batch_size: 8 },
  trainer+: { num_epochs: 3, metric_key: 'char_macro_f1' },
  optimizer+: { learning_rate: 1e-5, warmup_linear: { warmup_proportion: 0.0 } },
}
