// Cramming's recipe (JonasGeiping/cramming, config/train/bert-o4.yaml, commit 38d65b6, and config/arch/crammed-bert.yaml, commit 2009755): rows of
// 128 tokens, batches that grow to 8,192 over 60 % of its rows, 25 % masked, no dropout, 1e-3 from a quarter up to the full rate at 75 % of the run and
// down to 0, clipping at 0.5. Its run ends after 24 hours; the 10,000 steps here are claf2's number, to be set for your hardware. The
// architecture is the nearest one of transformers: 16 pre-norm layers with gated GELU and without biases, but with rotary positions.
{
  data_reader: {
    dataset: 'corpus_mlm',
    corpus_mlm: {
      sources: [{ path: 'corpus/*.txt' }],
      valid_documents: 2000,
      instances: { name: 'full_sentences' },
      masks: { name: 'token', token: { rate: [[0, 0.25]] } },
    },
  },
  token: { tokenizer: {
    word: { name: 'bert_basic', bert_basic: { do_lower_case: true } },
    subword: { name: 'wordpiece', wordpiece: { vocab_size: 32768 } },
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
      hidden_size: 768,
      num_hidden_layers: 16,
      num_attention_heads: 12,
      intermediate_size: 1536,
      layer_types: [
        'full_attention', 'full_attention', 'full_attention', 'full_attention', 'full_attention', 'full_attention', 'full_attention', 'full_attention',
        'full_attention', 'full_attention', 'full_attention', 'full_attention', 'full_attention', 'full_attention', 'full_attention', 'full_attention',
      ],
      max_position_embeddings: 512,
    },
  } },
  trainer: {
    name: 'pretrain',
    eval_and_save_step_count: 1000,
    grad_max_norm: 0.5,
    pretrain: {
      phases: [{ until: 10000, batch_size: 8192, max_seq_length: 128 }],
      batch_ramp: { batch_size: 1024, increment: 1024, rows: 22570000 },
      keep_step_count: 2000,
    },
  },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 1e-3,
    adamw: { weight_decay: 0.01, betas: [0.9, 0.98], eps: 1e-12 },
    lr_scheduler_type: 'warmup_stable_decay',
    warmup_stable_decay: { warmup_proportion: 0.75, start_factor: 0.25, decay_proportion: 0.25 },
  },
  seed_num: 42,
  runtime: { precision: 'bf16' },
}
