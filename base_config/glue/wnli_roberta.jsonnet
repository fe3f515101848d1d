// GLUE WNLI with RoBERTa: fairseq has no recipe for it as classification, so that of RTE is taken: see _recipe/roberta.libsonnet.
(import '../_recipe/roberta.libsonnet') + {
  data_reader: { dataset: 'wnli', wnli: { max_seq_length: 512 } },
  model: { name: 'roberta_for_seq_cls', roberta_for_seq_cls: { pretrained_model_name: 'roberta-large' } },
}
