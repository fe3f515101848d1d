// GLUE QQP with RoBERTa base and LoRA, as the paper says: learning rate 5e-4, 25 epochs: see _recipe/lora_roberta.libsonnet. Not yet reproduced.
(import '../_recipe/lora_roberta.libsonnet') + {
  data_reader: { dataset: 'qqp', qqp: { max_seq_length: 512 } },
  iterator: { batch_size: 16 },
  model+: { name: 'roberta_for_seq_cls', roberta_for_seq_cls: { pretrained_model_name: 'roberta-base' } },
  trainer+: { num_epochs: 25 },
  optimizer+: { learning_rate: 5e-4 },
}
