// GLUE RTE with RoBERTa base and IA3 (Liu et al., 2022, https://arxiv.org/abs/2205.05638; r-three/t-few, configs/t03b.json and ia3.json): learning
// rate 3e-3, 1,000 steps, batch 8, linear decay with warm-up over 6 %. T-Few has T0, Adafactor and two further losses; this is its adapter and its
// schedule with AdamW and an encoder. Not a reproduction.
{
  data_reader: { dataset: 'rte', rte: { max_seq_length: 256 } },
  iterator: { batch_size: 8 },
  model: {
    name: 'roberta_for_seq_cls',
    roberta_for_seq_cls: { pretrained_model_name: 'roberta-base' },
    peft: { name: 'ia3' },
  },
  trainer: { num_steps: 1000, eval_and_save_step_count: 250, grad_max_norm: 1.0 },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 3e-3,
    adamw: { weight_decay: 0.0 },
    lr_scheduler_type: 'warmup_linear',
    warmup_linear: { warmup_proportion: 0.06 },
  },
  seed_num: 42,
}
