// PAWS-X in Korean with an encoder as it was pre-trained: no step is taken. MTEB (Muennighoff et al., 2023) scores pairs by the average precision of cosines.
{
  data_reader: { dataset: 'paws_ko_embed', paws_ko_embed: { max_seq_length: 128, lowest: 0, highest: 1 } },
  iterator: { batch_size: 32 },
  model: { name: 'embed', embed: { pretrained_model_name: 'klue/bert-base', pooling: 'mean' } },
  trainer: { name: 'zero_shot', metric_key: 'average_precision' },
  optimizer: { op_type: 'adamw', learning_rate: 2e-5 },
  seed_num: 42,
}
