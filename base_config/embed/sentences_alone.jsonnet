// Unsupervised SimCSE on the lines of a file: see sentences_simcse, which evaluates similarities as well.
{
  data_reader: { dataset: 'sentences', sentences: { max_seq_length: 32 } },
  iterator: { batch_size: 64 },
  model: { name: 'embed_in_batch', embed_in_batch: { pretrained_model_name: 'klue/bert-base', pooling: 'cls', temperature: 0.05 } },
  trainer: { num_epochs: 1, eval_and_save_step_count: 125, grad_max_norm: 1.0 },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 3e-5,
    adamw: { weight_decay: 0.0, betas: [0.9, 0.999], eps: 1e-8 },
    lr_scheduler_type: 'warmup_linear',
    warmup_linear: { warmup_proportion: 0.0 },
  },
  seed_num: 42,
}
