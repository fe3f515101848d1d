// The first phase of ModernBERT-base (AnswerDotAI/ModernBERT, yamls/modernbert/modernbert-base-pretrain.yaml, commit 94c82d1): rows of 1,024 tokens, 4,608 of
// them, 1,719 billion tokens; batches grow from 768 over 50 billion. 30 % masked, StableAdamW, 8e-4, warm-up over 3 billion tokens (about 3,800
// steps of the first size), then constant: the decay belongs to a later phase. Decay 1e-5 without the rate's peak is 1e-5 / 8e-4 = 0.0125 here.
// Differences: transformers has one dropout for attention and its output, which is left at 0; the increments of the ramp are claf2's.
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
    word: { name: 'whitespace' },
    subword: { name: 'bpe', bpe: { vocab_size: 50368 } },
  } },
  model: { name: 'encoder', encoder: {
    pretrained_model_name: 'scratch',
    architecture: {
      model_type: 'modernbert',
      // By default they are those of another vocabulary.
      cls_token_id: null,
      sep_token_id: null,
      bos_token_id: null,
      eos_token_id: null,
      vocab_size: 50368,
      hidden_size: 768,
      num_hidden_layers: 22,
      num_attention_heads: 12,
      intermediate_size: 1152,
      local_attention: 128,
      max_position_embeddings: 8192,
    },
  } },
  trainer: {
    name: 'pretrain',
    eval_and_save_step_count: 4000,
    grad_max_norm: null,
    pretrain: {
      phases: [{ until: 382700, batch_size: 4608, max_seq_length: 1024 }],
      batch_ramp: { batch_size: 768, increment: 768, rows: 48828125 },
      keep_step_count: 4000,
      keep_last: 10,
      keep_every: 40000,
    },
  },
  optimizer: {
    op_type: 'stable_adamw',
    learning_rate: 8e-4,
    stable_adamw: { weight_decay: 0.0125, betas: [0.9, 0.98], eps: 1e-6 },
    lr_scheduler_type: 'warmup_stable_decay',
    warmup_stable_decay: { warmup_steps: 3814, decay_steps: 0 },
  },
  seed_num: 17,
  runtime: { precision: 'bf16' },
}
