// GLUE QNLI with RoBERTa, base or large: fairseq's table, batch 32 and learning rate 1e-5: see _recipe/roberta.libsonnet.
(import '../_recipe/roberta.libsonnet') + {
  data_reader: { dataset: 'qnli', qnli: { max_seq_length: 512 } },
  model: { name: 'roberta_for_seq_cls', roberta_for_seq_cls: { pretrained_model_name: 'roberta-large' } },
  iterator+: { batch_size: 32 },
  optimizer+: { learning_rate: 1e-5 },
}
