// CLaF's own fine-tuning of RoBERTa on GLUE (naver/claf, commit 6f45b1e, base_config/glue/*_roberta.json): batch 32, 2e-5, 10 epochs, warm-up
// over 6 %, weight decay 0.1, betas 0.9 and 0.98, eps 1e-6, the best of evaluations every 10 to 1000 steps.
(import 'roberta.libsonnet') + {
  iterator+: { batch_size: 32 },
  trainer+: { grad_max_norm: 1.0, eval_and_save_step_count: 1000, early_stopping_threshold: 10 },
}
