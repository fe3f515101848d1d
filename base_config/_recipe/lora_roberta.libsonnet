// LoRA with RoBERTa base on GLUE (Hu et al., 2021, https://arxiv.org/abs/2106.09685, appendix D): r 8 and alpha 8 on query and value,
// AdamW with weight decay 0.1, warm-up over 6 % of the steps, linear decay, length 512. The scripts of microsoft/LoRA (commit c4593f0)
// have alpha 16 and 8 GPUs with 16 or 32 rows each: see _recipe/lora_roberta_scripts.libsonnet. Neither decays biases and normalization.
// No score has been reproduced with it yet.
{
  iterator: { batch_size: 16 },
  model+: { peft: { name: 'lora', lora: { r: 8, alpha: 8, dropout: 0.0, targets: ['query', 'value'] } } },
  trainer: { num_epochs: 30, eval_and_save_step_count: 'epoch', grad_max_norm: 1.0 },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 5e-4,
    adamw: { weight_decay: 0.1, betas: [0.9, 0.999], eps: 1e-8 },
    lr_scheduler_type: 'warmup_linear',
    warmup_linear: { warmup_proportion: 0.06 },
  },
  seed_num: 42,
}
