// MosaicBERT-base's recipe (mosaicml/examples, examples/benchmarks/bert/yamls/main/mosaic-bert-base-uncased.yaml, commit 7768cc6) on BERT's
// architecture, because transformers has none with ALiBi and gated layers: rows of 128 tokens, 4,096 of them, 286,720,000 in all, 30 % masked, no dropout
// in attention, 5e-4, warm-up over 6 %, linear decay to 2 %, betas 0.9 and 0.98, no clipping, bf16. Its optimizer decays weights by 1e-5
// without the rate's peak, which is a decay of 1e-5 / 5e-4 = 0.02 here; it also decays biases and normalization, which claf2 never does.
{
  data_reader: {
    dataset: 'corpus_mlm',
    corpus_mlm: {
      sources: [{ path: 'corpus/*.txt' }],
      valid_documents: 2000,
      instances: { name: 'full_sentences' },
      masks: { name: 'token', token: { rate: [[0, 0.3]] } },
    },
  },
  token: { tokenizer: {
    word: { name: 'bert_basic', bert_basic: { do_lower_case: true } },
    subword: { name: 'wordpiece', wordpiece: { vocab_size: 30522 } },
  } },
  model: { name: 'encoder', encoder: (import '../_recipe/pretrain_encoder.libsonnet') + {
    architecture+: { attention_probs_dropout_prob: 0.0 },
  } },
  trainer: {
    name: 'pretrain',
    eval_and_save_step_count: 2000,
    grad_max_norm: null,
    pretrain: { phases: [{ until: 70000, batch_size: 4096, max_seq_length: 128 }], keep_step_count: 3500 },
  },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 5e-4,
    adamw: { weight_decay: 0.02, betas: [0.9, 0.98], eps: 1e-6 },
    lr_scheduler_type: 'warmup_polynomial',
    warmup_polynomial: { warmup_proportion: 0.06, power: 1.0, end_factor: 0.02 },
  },
  seed_num: 17,
  runtime: { precision: 'bf16' },
}
