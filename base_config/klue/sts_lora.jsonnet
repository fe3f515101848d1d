// KLUE STS with BERT base and LoRA: learning rate 5e-4, otherwise as klue/sts_bert: see _recipe/lora_klue.libsonnet. No score is published.
(import '../_recipe/lora_klue.libsonnet') + {
  data_reader: { dataset: 'klue_sts', klue_sts: { max_seq_length: 128 } },
  model+: { name: 'bert_for_reg', bert_for_reg: { pretrained_model_name: 'klue/bert-base' } },
  trainer+: { metric_key: 'pearson' },
}
