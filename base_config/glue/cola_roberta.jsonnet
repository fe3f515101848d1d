// GLUE CoLA with RoBERTa, base or large: fairseq's table, batch 16 and learning rate 1e-5: see _recipe/roberta.libsonnet.
(import '../_recipe/roberta.libsonnet') + {
  data_reader: { dataset: 'cola', cola: { max_seq_length: 512 } },
  model: { name: 'roberta_for_seq_cls', roberta_for_seq_cls: { pretrained_model_name: 'roberta-large' } },
  optimizer+: { learning_rate: 1e-5 },
}
