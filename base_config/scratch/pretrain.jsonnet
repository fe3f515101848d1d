// A small encoder that is pre-trained on a generated sample or on your own text: 2 layers of width 128, rows of 64 tokens, then of 128.
// The numbers are claf2's own, chosen so that the sample is learned within a minute on two processors.
{
  data_reader: {
    dataset: 'corpus_mlm',
    corpus_mlm: { sources: [{ path: 'corpus.txt' }], valid_documents: 100, masks: { name: 'word' } },
  },
  model: { name: 'encoder', encoder: (import '../_recipe/scratch_encoder.libsonnet') },
  token: { tokenizer: { word: { name: 'bert_basic', bert_basic: { do_lower_case: false } }, subword: { name: 'wordpiece', wordpiece: { vocab_size: 1000 } } } },
  trainer: {
    name: 'pretrain',
    eval_and_save_step_count: 100,
    pretrain: {
      phases: [{ until: 400, batch_size: 32, max_seq_length: 64 }, { until: 500, batch_size: 16, max_seq_length: 128 }],
      keep_step_count: 100,
    },
  },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 1e-3,
    adamw: { weight_decay: 0.01, betas: [0.9, 0.98], eps: 1e-6 },
    lr_scheduler_type: 'warmup_linear',
    warmup_linear: { warmup_proportion: 0.1 },
  },
}
