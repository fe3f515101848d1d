// MT-DNN's refinement (Liu et al., 2019, section 4.2; README of namisan/mt-dnn, commit 3228e7c): Adamax, 5e-5, batches of 32 of one
// task, 5 epochs with every batch of every task once, warm-up over a tenth, linear decay, gradients clipped at 1. The tasks of a
// multi_task BaseConfig name the BaseConfigs by which each is trained alone, before and after.
{
  sampler: { name: 'mtdnn' },
  trainer: { name: 'mtdnn', num_epochs: 5, eval_and_save_step_count: 'epoch', grad_max_norm: 1.0 },
  optimizer: {
    op_type: 'adamax',
    learning_rate: 5e-5,
    adamax: { weight_decay: 0.01, betas: [0.9, 0.999], eps: 1e-8 },
    lr_scheduler_type: 'warmup_linear',
    warmup_linear: { warmup_proportion: 0.1 },
  },
  seed_num: 42,
}
