// GLUE STS-B as CLaF fine-tuned BERT: see _recipe/claf_bert.libsonnet.
(import '../_recipe/claf_bert.libsonnet') + {
  data_reader: { dataset: 'stsb', stsb: { max_seq_length: 128 } },
  model: { name: 'bert_for_reg', bert_for_reg: { pretrained_model_name: 'bert-base-uncased' } },
  trainer+: { eval_and_save_step_count: 100 },
  seed_num: 22,
}
