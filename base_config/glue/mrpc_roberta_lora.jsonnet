// GLUE MRPC with RoBERTa base and LoRA, as the paper says: learning rate 4e-4, 30 epochs: see _recipe/lora_roberta.libsonnet. Not yet reproduced.
// The paper begins with the adapter of MNLI; this one begins with RoBERTa.
(import '../_recipe/lora_roberta.libsonnet') + {
  data_reader: { dataset: 'mrpc', mrpc: { max_seq_length: 512 } },
  iterator: { batch_size: 16 },
  model+: { name: 'roberta_for_seq_cls', roberta_for_seq_cls: { pretrained_model_name: 'roberta-base' } },
  trainer+: { num_epochs: 30 },
  optimizer+: { learning_rate: 4e-4 },
}
