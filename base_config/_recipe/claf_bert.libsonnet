// CLaF's own fine-tuning of BERT on GLUE (naver/claf, commit 6f45b1e, base_config/glue/*_bert.json): batch 32, 2e-5, 5 epochs, warm-up over a
// tenth, weight decay 0.01, an evaluation every 10 to 1000 steps of which the best counts, at most 10 without a better score.
(import 'bert.libsonnet') + {
  trainer+: { num_epochs: 5, eval_and_save_step_count: 1000, early_stopping_threshold: 10 },
}
