// GLUE STS-B as CLaF fine-tuned RoBERTa: see _recipe/claf_roberta.libsonnet.
(import '../_recipe/claf_roberta.libsonnet') + {
  data_reader: { dataset: 'stsb', stsb: { max_seq_length: 128 } },
  model: { name: 'roberta_for_reg', roberta_for_reg: { pretrained_model_name: 'roberta-base' } },
  trainer+: { eval_and_save_step_count: 100 },
}
