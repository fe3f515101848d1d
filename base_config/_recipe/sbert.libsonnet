// Sentence-BERT (Reimers & Gurevych, 2019, section 3.1): batch 16, 2e-5, warm-up over a tenth of the steps, mean pooling, 1 epoch. Weight decay 0.01
// and clipping at 1.0 are the defaults of sentence-transformers, which its training_nli.py and training_stsbenchmark.py keep. Not reproduced: the
// data, SNLI and MultiNLI in English.
{
  trainer: { num_epochs: 1, eval_and_save_step_count: 1000, grad_max_norm: 1.0 },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 2e-5,
    adamw: { weight_decay: 0.01, betas: [0.9, 0.999], eps: 1e-8 },
    lr_scheduler_type: 'warmup_linear',
    warmup_linear: { warmup_proportion: 0.1 },
  },
  seed_num: 42,
}
