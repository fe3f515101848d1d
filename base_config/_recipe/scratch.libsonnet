// claf2's own, for machines without weights: a small BERT (2 layers, 128 wide) with fresh weights and a WordPiece vocabulary
// learnt from the training texts. It shows that a pipeline learns; it is no benchmark's recipe.
{
  iterator: { batch_size: 32 },
  token: {
    tokenizer: {
      word: { name: 'bert_basic', bert_basic: { do_lower_case: false } },
      subword: { name: 'wordpiece', wordpiece: { vocab_size: 8000 } },
    },
  },
  trainer: { num_epochs: 5, eval_and_save_step_count: 'epoch', grad_max_norm: 1.0 },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 5e-4,
    adamw: { weight_decay: 0.01 },
    lr_scheduler_type: 'warmup_linear',
    warmup_linear: { warmup_proportion: 0.1 },
  },
  seed_num: 42,
}
