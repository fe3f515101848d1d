// JGLUE JSTS with an encoder as it was pre-trained: no step is taken. MTEB (Muennighoff et al., 2023) scores the same, by the cosine of mean vectors.
{
  data_reader: { dataset: 'jsts_embed', jsts_embed: { max_seq_length: 128 } },
  iterator: { batch_size: 32 },
  model: { name: 'embed', embed: { pretrained_model_name: 'tohoku-nlp/bert-base-japanese-v3', pooling: 'mean' } },
  trainer: { name: 'zero_shot', metric_key: 'spearman' },
  optimizer: { op_type: 'adamw', learning_rate: 2e-5 },
  seed_num: 42,
}
