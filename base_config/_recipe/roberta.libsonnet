// RoBERTa's fine-tuning on GLUE (Liu et al., 2019; fairseq, examples/roberta/README.glue.md): 10 epochs, warm-up over 6 % of the
// steps, weight decay 0.1, betas 0.9 and 0.98, eps 1e-6, no clipping, polynomial decay of power 1.
{
  iterator: { batch_size: 16 },
  trainer: { num_epochs: 10, eval_and_save_step_count: 'epoch', grad_max_norm: null },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 2e-5,
    adamw: { weight_decay: 0.1, betas: [0.9, 0.98], eps: 1e-6 },
    lr_scheduler_type: 'warmup_polynomial',
    warmup_polynomial: { warmup_proportion: 0.06, power: 1.0 },
  },
  seed_num: 42,
}
