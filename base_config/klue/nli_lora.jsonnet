// KLUE NLI with BERT base and LoRA: learning rate 5e-4, otherwise as klue/nli_bert: see _recipe/lora_klue.libsonnet. No score is published.
(import '../_recipe/lora_klue.libsonnet') + {
  data_reader: { dataset: 'klue_nli', klue_nli: { max_seq_length: 128 } },
  model+: { name: 'bert_for_seq_cls', bert_for_seq_cls: { pretrained_model_name: 'klue/bert-base' } },
  trainer+: { num_epochs: 5, metric_key: 'accuracy' },
}
