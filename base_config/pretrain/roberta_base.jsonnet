// RoBERTa-base as fairseq's own example trains it (facebookresearch/fairseq, examples/roberta/config/pretraining/base.yaml, commit 84c873d, and
// README.pretraining.md): rows of full sentences of 512 tokens, 2,048 of them (16 on each of 8 GPUs, 16 times), 125,000 steps, 5e-4, 10,000 of
// warm-up, betas 0.9 and 0.98, no clipping. The run of the paper is longer. fairseq's vocabulary is GPT-2's byte-level one; here one of
// 50,265 is learned. To use another, name a folder with its files and a config.json as pretrained_model_name, without weights.
{
  data_reader: {
    dataset: 'corpus_mlm',
    corpus_mlm: {
      sources: [{ path: 'corpus/*.txt' }],
      valid_documents: 2000,
      instances: { name: 'full_sentences' },
      masks: { name: 'token', token: { rate: [[0, 0.15]] } },
    },
  },
  token: { tokenizer: {
    word: { name: 'whitespace' },
    subword: { name: 'bpe', bpe: { vocab_size: 50265 } },
  } },
  model: { name: 'encoder', encoder: (import '../_recipe/pretrain_encoder.libsonnet') + {
    // By default, bos and eos are ids of another vocabulary.
    architecture+: { model_type: 'roberta', max_position_embeddings: 514, type_vocab_size: 1, layer_norm_eps: 1e-5, bos_token_id: null, eos_token_id: null },
  } },
  trainer: {
    name: 'pretrain',
    eval_and_save_step_count: 5000,
    grad_max_norm: null,
    pretrain: { phases: [{ until: 125000, batch_size: 2048, max_seq_length: 512 }], keep_step_count: 25000 },
  },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 5e-4,
    adamw: { weight_decay: 0.01, betas: [0.9, 0.98], eps: 1e-6 },
    lr_scheduler_type: 'warmup_polynomial',
    warmup_polynomial: { warmup_steps: 10000, power: 1.0 },
  },
  seed_num: 42,
}
