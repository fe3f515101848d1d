// KorQuAD 1.0 as retrieval: a question and its paragraph against those of the batch: see _recipe/dpr.libsonnet.
(import '../_recipe/dpr.libsonnet') + {
  data_reader: { dataset: 'korquad_retrieval', korquad_retrieval: { max_seq_length: 256 } },
  model: { name: 'embed_in_batch', embed_in_batch: { pretrained_model_name: 'klue/bert-base', pooling: 'mean', temperature: 0.05 } },
}
