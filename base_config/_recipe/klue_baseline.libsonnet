// KLUE-baseline's run_all.sh and code defaults (KLUE-benchmark/KLUE-baseline, commit 8a03c94), for models up to base size: AdamW with eps
// 1e-8 and no weight decay, clipping at 1.0, linear decay, four evaluations an epoch, at most 5 of them without improvement.
{
  iterator: { batch_size: 32 },
  trainer: { num_epochs: 4, eval_and_save_step_count: 0.25, grad_max_norm: 1.0, early_stopping_threshold: 5 },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 5e-5,
    adamw: { weight_decay: 0.0, betas: [0.9, 0.999], eps: 1e-8 },
    lr_scheduler_type: 'warmup_linear',
    warmup_linear: { warmup_proportion: 0.1 },
  },
  seed_num: 42,
}
