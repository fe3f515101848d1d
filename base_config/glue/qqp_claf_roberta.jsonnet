// GLUE QQP as CLaF fine-tuned RoBERTa: see _recipe/claf_roberta.libsonnet.
(import '../_recipe/claf_roberta.libsonnet') + {
  data_reader: { dataset: 'qqp', qqp: { max_seq_length: 128 } },
  model: { name: 'roberta_for_seq_cls', roberta_for_seq_cls: { pretrained_model_name: 'roberta-base' } },
}
