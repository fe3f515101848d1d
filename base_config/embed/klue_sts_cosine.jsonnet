// KLUE STS as a task of embeddings: Sentence-BERT's cosine loss, 4 epochs as in training_stsbenchmark.py: see _recipe/sbert.libsonnet.
(import '../_recipe/sbert.libsonnet') + {
  data_reader: { dataset: 'klue_sts_embed', klue_sts_embed: { max_seq_length: 128 } },
  iterator: { batch_size: 16 },
  model: { name: 'embed', embed: { pretrained_model_name: 'klue/bert-base', pooling: 'mean' } },
  trainer+: { num_epochs: 4, eval_and_save_step_count: 'epoch', metric_key: 'spearman' },
}
