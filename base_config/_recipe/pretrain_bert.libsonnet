// BERT's optimizer (google-research/bert, optimization.py, commit 02102db): AdamW with eps 1e-6 and decay 0.01 of all but biases and
// normalization, clipping at 1.0, 1e-4 (README, commit 04f9e5d). 10,000 steps of warm-up and batches of 256 are those of the MultiBERTs'
// model card (huggingface.co/google/multiberts-seed_1-step_2000k), which reproduce BERT-base. BERT's decay begins at step 0 and is
// hidden by the warm-up; here it begins after it, which is a difference of 1 % in the rate.
{
  trainer: { name: 'pretrain', eval_and_save_step_count: 10000, grad_max_norm: 1.0 },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 1e-4,
    adamw: { weight_decay: 0.01, betas: [0.9, 0.999], eps: 1e-6 },
    lr_scheduler_type: 'warmup_linear',
    warmup_linear: { warmup_steps: 10000 },
  },
  seed_num: 42,
}
