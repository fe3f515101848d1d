// TinyBERT's last stage, the distillation of the prediction layer (huawei-noah/Pretrained-Language-Model, TinyBERT/README.md, file version 543a25a, and
// task_distill.py, file version 008b180): the teacher's logits alone at temperature 1, 3e-5, 3 epochs, batch 32, length 128, evaluated every 100 steps, BertAdam with
// warm-up over a tenth and decay 0.01. Different here: no augmented data, no stages before it (start from a general TinyBERT, or keep
// layers of the teacher), the loss is the mean over rows and not over rows times labels, which Adam hides, and eps is BERT's 1e-6.
{
  iterator: { batch_size: 32 },
  trainer: { num_epochs: 3, eval_and_save_step_count: 100, grad_max_norm: 1.0 },
  objectives: { distil: { weight: 1.0, temperature: 1.0 } },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 3e-5,
    adamw: { weight_decay: 0.01, betas: [0.9, 0.999], eps: 1e-6 },
    lr_scheduler_type: 'warmup_linear',
    warmup_linear: { warmup_proportion: 0.1 },
  },
  seed_num: 42,
}
