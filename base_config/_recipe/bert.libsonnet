// BERT's fine-tuning (Devlin et al., 2019, appendix A.3) at the one learning rate that Hugging Face's run_glue README uses
// (transformers, examples/pytorch/text-classification): length 128, batch 32, 2e-5, 3 epochs, linear decay. Warm-up over a
// tenth of the steps and weight decay 0.01 are the paper's.
{
  iterator: { batch_size: 32 },
  trainer: { num_epochs: 3, eval_and_save_step_count: 'epoch', grad_max_norm: 1.0 },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 2e-5,
    adamw: { weight_decay: 0.01, betas: [0.9, 0.999], eps: 1e-8 },
    lr_scheduler_type: 'warmup_linear',
    warmup_linear: { warmup_proportion: 0.1 },
  },
  seed_num: 42,
}
