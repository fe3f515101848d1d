// GLUE STS-B with BERT, base or large: see _recipe/bert.libsonnet.
(import '../_recipe/bert.libsonnet') + {
  data_reader: { dataset: 'stsb', stsb: { max_seq_length: 128 } },
  model: { name: 'bert_for_reg', bert_for_reg: { pretrained_model_name: 'bert-base-cased' } },
}
