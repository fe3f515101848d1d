// Supervised SimCSE (Gao et al., 2021) as BM-K/KoSimCSE-SKT trains it on KorNLI (README, commit 01e46dd): batch 256, 1e-4, 3 epochs, temperature 0.05,
// length 50, warm-up over 0.05, [CLS], evaluated every 250 steps on KorSTS. Not reproduced: the paper's MLP on [CLS], its batches of 512 at 5e-5, and
// the repository's own file of triplets, which are made from the pairs here. It reports 83.58 on the test set of KorSTS for KLUE-BERT (Spearman).
{
  trainer: { name: 'finetune', num_epochs: 3, eval_and_save_step_count: 250, grad_max_norm: 1.0 },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 1e-4,
    adamw: { weight_decay: 0.0, betas: [0.9, 0.999], eps: 1e-8 },
    lr_scheduler_type: 'warmup_linear',
    warmup_linear: { warmup_proportion: 0.05 },
  },
  seed_num: 42,
}
