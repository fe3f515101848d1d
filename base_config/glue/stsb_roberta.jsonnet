// GLUE STS-B with RoBERTa, base or large: fairseq's table, batch 16 and learning rate 2e-5: see _recipe/roberta.libsonnet.
(import '../_recipe/roberta.libsonnet') + {
  data_reader: { dataset: 'stsb', stsb: { max_seq_length: 512 } },
  model: { name: 'roberta_for_reg', roberta_for_reg: { pretrained_model_name: 'roberta-large' } },
}
