// KLUE NER with BERT base and LoRA: learning rate 5e-4, otherwise as klue/ner_bert: see _recipe/lora_klue.libsonnet. No score is published.
(import '../_recipe/lora_klue.libsonnet') + {
  data_reader: { dataset: 'klue_ner', klue_ner: { max_seq_length: 510 } },
  model+: { name: 'bert_for_tok_cls', bert_for_tok_cls: { pretrained_model_name: 'klue/bert-base' } },
  trainer+: { num_epochs: 3, metric_key: 'char_macro_f1' },
  optimizer+: { warmup_linear: { warmup_proportion: 0.0 } },
}
