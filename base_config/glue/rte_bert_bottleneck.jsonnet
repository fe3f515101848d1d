// GLUE RTE with BERT large and bottleneck adapters (Houlsby et al., 2019, https://arxiv.org/abs/1902.00751, section 3.2 and supplement): size 64,
// batch 32, learning rate 3e-4 and 20 epochs of those that the paper tries (3e-5 to 3e-3; 3 and 20), Adam with warm-up over the first 10 %
// and linear decay. Not yet reproduced.
{
  data_reader: { dataset: 'rte', rte: { max_seq_length: 128 } },
  iterator: { batch_size: 32 },
  model: {
    name: 'bert_for_seq_cls',
    bert_for_seq_cls: { pretrained_model_name: 'bert-large-uncased' },
    peft: { name: 'bottleneck', bottleneck: { size: 64 } },
  },
  trainer: { num_epochs: 20, eval_and_save_step_count: 'epoch', grad_max_norm: 1.0 },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 3e-4,
    adamw: { weight_decay: 0.01 },
    lr_scheduler_type: 'warmup_linear',
    warmup_linear: { warmup_proportion: 0.1 },
  },
  seed_num: 42,
}
