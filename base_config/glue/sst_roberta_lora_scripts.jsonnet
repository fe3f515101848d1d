// GLUE SST-2 with RoBERTa base and LoRA, as roberta_base_sst2.sh of microsoft/LoRA does it: 8 GPUs with 16 rows, alpha 16, learning rate 5e-4,
// 60 epochs, where the paper has 16 rows and alpha 8: see _recipe/lora_roberta_scripts.libsonnet. Not yet reproduced.
(import '../_recipe/lora_roberta_scripts.libsonnet') + {
  data_reader: { dataset: 'sst', sst: { max_seq_length: 512 } },
  model+: { name: 'roberta_for_seq_cls', roberta_for_seq_cls: { pretrained_model_name: 'roberta-base' } },
  trainer+: { num_epochs: 60 },
  optimizer+: { learning_rate: 5e-4 },
}
