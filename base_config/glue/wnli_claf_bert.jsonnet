// GLUE WNLI as CLaF fine-tuned BERT: see _recipe/claf_bert.libsonnet.
(import '../_recipe/claf_bert.libsonnet') + {
  data_reader: { dataset: 'wnli', wnli: { max_seq_length: 128 } },
  model: { name: 'bert_for_seq_cls', bert_for_seq_cls: { pretrained_model_name: 'bert-base-uncased' } },
  iterator+: { batch_size: 16 },
  trainer+: { eval_and_save_step_count: 10 },
}
