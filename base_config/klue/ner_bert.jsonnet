// KLUE NER with BERT base: length 510, batch 32, 5e-5, 3 epochs, no warm-up, by char_macro_f1:
// see _recipe/klue_baseline.libsonnet.
(import '../_recipe/klue_baseline.libsonnet') + {
  data_reader: { dataset: 'klue_ner', klue_ner: { max_seq_length: 510 } },
  model: { name: 'bert_for_tok_cls', bert_for_tok_cls: { pretrained_model_name: 'klue/bert-base' } },
  trainer+: { num_epochs: 3, metric_key: 'char_macro_f1' },
  optimizer+: { warmup_linear: { warmup_proportion: 0.0 } },
}
