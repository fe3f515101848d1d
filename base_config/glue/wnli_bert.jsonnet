// GLUE WNLI with BERT, base or large: see _recipe/bert.libsonnet. The README gives WNLI 5 epochs.
(import '../_recipe/bert.libsonnet') + {
  data_reader: { dataset: 'wnli', wnli: { max_seq_length: 128 } },
  model: { name: 'bert_for_seq_cls', bert_for_seq_cls: { pretrained_model_name: 'bert-base-cased' } },
  trainer+: { num_epochs: 5 },
}
