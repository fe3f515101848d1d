// KLUE YNAT with BERT base and LoRA: learning rate 5e-4, otherwise as klue/ynat_bert: see _recipe/lora_klue.libsonnet. No score is published.
(import '../_recipe/lora_klue.libsonnet') + {
  data_reader: { dataset: 'ynat', ynat: { max_seq_length: 128 } },
  model+: { name: 'bert_for_seq_cls', bert_for_seq_cls: { pretrained_model_name: 'klue/bert-base' } },
  trainer+: { early_stopping_threshold: null, metric_key: 'macro_f1' },
}
