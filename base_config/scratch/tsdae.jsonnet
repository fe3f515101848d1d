// A small sentence encoder that learns from a generated sample or from your own text as pretrain/tsdae does: eojeols are deleted.
// The numbers are claf2's own, chosen so that the sample is learned within a minute on two processors.
{
  data_reader: {
    dataset: 'corpus_tsdae',
    corpus_tsdae: {
      sources: [{ path: 'corpus.txt' }],
      valid_documents: 50,
      instances: { name: 'sentence' },
      masks: { name: 'deletion', deletion: { unit: 'eojeol' } },
    },
  },
  model: { name: 'tsdae', tsdae: (import '../_recipe/scratch_encoder.libsonnet') },
  token: { tokenizer: { word: { name: 'bert_basic', bert_basic: { do_lower_case: false } }, subword: { name: 'wordpiece', wordpiece: { vocab_size: 1000 } } } },
  trainer: {
    name: 'pretrain',
    eval_and_save_step_count: 100,
    pretrain: { phases: [{ until: 300, batch_size: 32, max_seq_length: 32 }], keep_step_count: 100 },
  },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 1e-3,
    adamw: { weight_decay: 0.01, betas: [0.9, 0.98], eps: 1e-6 },
    lr_scheduler_type: 'warmup_linear',
    warmup_linear: { warmup_proportion: 0.1 },
  },
}
