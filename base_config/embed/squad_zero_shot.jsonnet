// SQuAD 1.1 as retrieval with an encoder as it was pre-trained: no step is taken.
{
  data_reader: { dataset: 'squad_retrieval', squad_retrieval: { max_seq_length: 256 } },
  iterator: { batch_size: 32 },
  model: { name: 'embed_in_batch', embed_in_batch: { pretrained_model_name: 'bert-base-uncased', pooling: 'mean' } },
  trainer: { name: 'zero_shot', metric_key: 'ndcg_at_10' },
  optimizer: { op_type: 'adamw', learning_rate: 2e-5 },
  seed_num: 42,
}
