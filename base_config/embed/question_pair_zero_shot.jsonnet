// Question_pair with an encoder as it was pre-trained: no step is taken. MTEB (Muennighoff et al., 2023) scores pairs by the average precision of cosines.
{
  data_reader: { dataset: 'question_pair_embed', question_pair_embed: { max_seq_length: 128, lowest: 1, highest: 0 } },
  iterator: { batch_size: 32 },
  model: { name: 'embed', embed: { pretrained_model_name: 'klue/bert-base', pooling: 'mean' } },
  trainer: { name: 'zero_shot', metric_key: 'average_precision' },
  optimizer: { op_type: 'adamw', learning_rate: 2e-5 },
  seed_num: 42,
}
