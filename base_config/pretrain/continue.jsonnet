// Continued pre-training of any model on your own text, with its own tokenizer: 2e-5, as google-research/bert advises (README, commit 04f9e5d,
// "Pre-training tips"). Batches of 256 rows of 128 tokens, 10,000 steps, whole words masked and a tenth of the steps as warm-up are claf2's own.
{
  data_reader: {
    dataset: 'corpus_mlm',
    corpus_mlm: {
      sources: [{ path: 'corpus/*.txt' }],
      valid_documents: 500,
      masks: { name: 'word', word: { rate: [[0, 0.15]] } },
    },
  },
  model: { name: 'encoder', encoder: { pretrained_model_name: 'bert-base-cased' } },
  trainer: {
    name: 'pretrain',
    eval_and_save_step_count: 1000,
    pretrain: { phases: [{ until: 10000, batch_size: 256, max_seq_length: 128 }], keep_step_count: 2500 },
  },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 2e-5,
    adamw: { weight_decay: 0.01, betas: [0.9, 0.999], eps: 1e-6 },
    lr_scheduler_type: 'warmup_linear',
    warmup_linear: { warmup_proportion: 0.1 },
  },
  seed_num: 42,
}
