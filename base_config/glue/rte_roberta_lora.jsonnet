// GLUE RTE with RoBERTa base and LoRA, as the paper says: learning rate 5e-4, 80 epochs: see _recipe/lora_roberta.libsonnet. Not yet reproduced.
// The paper begins with the adapter of MNLI; this one begins with RoBERTa.
(import '../_recipe/lora_roberta.libsonnet') + {
  data_reader: { dataset: 'rte', rte: { max_seq_length: 512 } },
  iterator: { batch_size: 32 },
  model+: { name: 'roberta_for_seq_cls', roberta_for_seq_cls: { pretrained_model_name: 'roberta-base' } },
  trainer+: { num_epochs: 80 },
  optimizer+: { learning_rate: 5e-4 },
}
