// Sentence-BERT's softmax loss on KLUE NLI alone, selected by accuracy: see _recipe/sbert.libsonnet. klue_nli_softmax evaluates similarities as well.
(import '../_recipe/sbert.libsonnet') + {
  data_reader: { dataset: 'klue_nli', klue_nli: { max_seq_length: 128 } },
  iterator: { batch_size: 16 },
  model: { name: 'embed_softmax', embed_softmax: { pretrained_model_name: 'klue/bert-base', pooling: 'mean' } },
  trainer+: { metric_key: 'accuracy' },
}
