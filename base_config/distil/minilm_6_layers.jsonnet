// MiniLM with 6 layers of width 768, distilled from BERT-base on plain text (Wang et al., 2020, https://arxiv.org/abs/2002.10957, section 4.1; recalled, not
// checked against the paper's text): the relations of the last layer alone, batches of 1,024 rows of 512 tokens, 5e-4, 400,000 steps, 4,000 of
// them warm-up, linear decay, weight decay 0.01. Different here: the student begins with every second layer of the teacher, it reads rows
// with BERT's masks, and eps is BERT's 1e-6. The teacher is any model with the same tokenizer: --relations.teacher.
{
  data_reader: {
    dataset: 'corpus_mlm',
    corpus_mlm: { sources: [{ path: 'corpus/*.txt' }], valid_documents: 500, masks: { name: 'token', token: { rate: [[0, 0.15]] } } },
  },
  model: {
    name: 'encoder',
    encoder: { pretrained_model_name: 'bert-base-uncased', keep_layers: [0, 2, 4, 6, 8, 10] },
  },
  objectives: { relations: { teacher: 'bert-base-uncased', weight: 1.0 } },
  trainer: {
    name: 'pretrain',
    eval_and_save_step_count: 10000,
    grad_max_norm: 1.0,
    pretrain: { phases: [{ until: 400000, batch_size: 1024, max_seq_length: 512 }], keep_step_count: 50000 },
  },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 5e-4,
    adamw: { weight_decay: 0.01, betas: [0.9, 0.999], eps: 1e-6 },
    lr_scheduler_type: 'warmup_linear',
    warmup_linear: { warmup_steps: 4000 },
  },
  seed_num: 42,
}
