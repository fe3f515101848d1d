// GLUE RTE with BERT large and P-tuning v2 (Liu et al., 2022; THUDM/P-tuning-v2, commit b1520c9, run_script/run_rte_bert.sh): 20 virtual tokens,
// dropout 0.1, learning rate 1e-2, 60 epochs, batch 32, length 128, seed 11. Their script takes RTE from SuperGLUE, which has the same rows.
// The defaults of transformers' Trainer otherwise: no weight decay, no warm-up, linear decay. Not yet reproduced.
{
  data_reader: { dataset: 'rte', rte: { max_seq_length: 128 } },
  iterator: { batch_size: 32 },
  model: {
    name: 'bert_for_seq_cls',
    bert_for_seq_cls: { pretrained_model_name: 'bert-large-cased', dropout: 0.1 },
    peft: { name: 'prefix', prefix: { num_tokens: 20, dropout: 0.1 } },
  },
  trainer: { num_epochs: 60, eval_and_save_step_count: 'epoch', grad_max_norm: 1.0 },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 1e-2,
    adamw: { weight_decay: 0.0 },
    lr_scheduler_type: 'warmup_linear',
    warmup_linear: { warmup_proportion: 0.0 },
  },
  seed_num: 11,
}
