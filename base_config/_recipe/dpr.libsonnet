// In-batch negatives for questions and paragraphs, after DPR (Karpukhin et al., 2020): batch 128, 2e-5 and length 256 as in the configuration of its
// code (facebookresearch/DPR, conf/train/biencoder_nq.yaml, commit 2e5f474), linear warm-up. Choices of claf2's: 3 epochs instead of 40, warm-up over a
// tenth of the steps, clipping at 1.0 instead of 2.0, mean pooling instead of [CLS], cosines with a temperature of 0.05 instead of dot products, and one
// encoder for both sides. Not reproduced: hard negatives that BM25 finds. Equal paragraphs of a batch are not negatives of each other.
{
  iterator: { batch_size: 128 },
  trainer: { num_epochs: 3, eval_and_save_step_count: 'epoch', grad_max_norm: 1.0, metric_key: 'ndcg_at_10' },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 2e-5,
    adamw: { weight_decay: 0.0, betas: [0.9, 0.999], eps: 1e-8 },
    lr_scheduler_type: 'warmup_linear',
    warmup_linear: { warmup_proportion: 0.1 },
  },
  seed_num: 42,
}
