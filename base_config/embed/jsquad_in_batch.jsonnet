// JGLUE JSQuAD as retrieval: a question and its paragraph against those of the batch: see _recipe/dpr.libsonnet.
(import '../_recipe/dpr.libsonnet') + {
  data_reader: { dataset: 'jsquad_retrieval', jsquad_retrieval: { max_seq_length: 256 } },
  model: { name: 'embed_in_batch', embed_in_batch: { pretrained_model_name: 'tohoku-nlp/bert-base-japanese-v3', pooling: 'mean', temperature: 0.05 } },
}
