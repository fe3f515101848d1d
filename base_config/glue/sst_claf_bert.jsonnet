// GLUE SST-2 as CLaF fine-tuned BERT: see _recipe/claf_bert.libsonnet.
(import '../_recipe/claf_bert.libsonnet') + {
  data_reader: { dataset: 'sst', sst: { max_seq_length: 128 } },
  model: { name: 'bert_for_seq_cls', bert_for_seq_cls: { pretrained_model_name: 'bert-base-uncased' } },
}
