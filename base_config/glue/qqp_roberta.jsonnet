// GLUE QQP with RoBERTa, base or large: fairseq's table, batch 32, learning rate 1e-5 and warm-up over 28318 of 113272 steps, a quarter:
// see _recipe/roberta.libsonnet.
(import '../_recipe/roberta.libsonnet') + {
  data_reader: { dataset: 'qqp', qqp: { max_seq_length: 512 } },
  model: { name: 'roberta_for_seq_cls', roberta_for_seq_cls: { pretrained_model_name: 'roberta-large' } },
  iterator+: { batch_size: 32 },
  optimizer+: { learning_rate: 1e-5, warmup_polynomial+: { warmup_proportion: 0.25 } },
}
