// KoELECTRA's fine-tuning (monologg/KoELECTRA, finetune/config, base-v3): length 128, batch 32, 5e-5, no decay, no warm-up, clipping at 1.0, the
// best of evaluations every so many steps.
{
  iterator: { batch_size: 32 },
  trainer: { num_epochs: 10, eval_and_save_step_count: 100, grad_max_norm: 1.0 },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 5e-5,
    adamw: { weight_decay: 0.0, betas: [0.9, 0.999], eps: 1e-8 },
    lr_scheduler_type: 'warmup_linear',
    warmup_linear: { warmup_proportion: 0.0 },
  },
  seed_num: 42,
}
