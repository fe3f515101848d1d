// SQuAD 1.1 as retrieval: a question and its paragraph against those of the batch: see _recipe/dpr.libsonnet.
(import '../_recipe/dpr.libsonnet') + {
  data_reader: { dataset: 'squad_retrieval', squad_retrieval: { max_seq_length: 256 } },
  model: { name: 'embed_in_batch', embed_in_batch: { pretrained_model_name: 'bert-base-uncased', pooling: 'mean', temperature: 0.05 } },
}
