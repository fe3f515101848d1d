// GLUE STS-B as a task of embeddings: Sentence-BERT's cosine loss, 4 epochs as in training_stsbenchmark.py: see _recipe/sbert.libsonnet.
(import '../_recipe/sbert.libsonnet') + {
  data_reader: { dataset: 'stsb_embed', stsb_embed: { max_seq_length: 128 } },
  iterator: { batch_size: 16 },
  model: { name: 'embed', embed: { pretrained_model_name: 'bert-base-uncased', pooling: 'mean' } },
  trainer+: { num_epochs: 4, eval_and_save_step_count: 'epoch', metric_key: 'spearman' },
}
