// GLUE WNLI as CLaF fine-tuned RoBERTa: see _recipe/claf_roberta.libsonnet.
(import '../_recipe/claf_roberta.libsonnet') + {
  data_reader: { dataset: 'wnli', wnli: { max_seq_length: 128 } },
  model: { name: 'roberta_for_seq_cls', roberta_for_seq_cls: { pretrained_model_name: 'roberta-base' } },
  iterator+: { batch_size: 16 },
  trainer+: { eval_and_save_step_count: 10 },
}
