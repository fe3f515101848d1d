// The first Japanese BERT-base of Tohoku University (README of cl-tohoku/bert-japanese, commit 052eced): BERT's configuration with rows of
// 512 tokens, 256 rows, 1M steps, 1e-4, a vocabulary of 32,000 over words of MeCab (IPADIC), whole words masked, at most 10 checkpoints, one every
// 100,000 steps. What the README leaves to BERT is in _recipe/pretrain_bert.libsonnet. Needs claf2[ja].
(import '../_recipe/pretrain_bert.libsonnet') + {
  data_reader: {
    dataset: 'corpus_mlm_nsp',
    corpus_mlm_nsp: {
      sources: [{ path: 'corpus/*.txt' }],
      valid_documents: 2000,
      instances: { name: 'sentence_pair', sentence_pair: { short_probability: 0.1 } },
      masks: { name: 'word', word: { rate: [[0, 0.15]] } },
    },
  },
  token: { tokenizer: {
    word: { name: 'japanese' },
    subword: { name: 'wordpiece', wordpiece: { vocab_size: 32000 } },
  } },
  model: { name: 'encoder', encoder: (import '../_recipe/pretrain_encoder.libsonnet') },
  trainer+: {
    pretrain: { phases: [{ until: 1000000, batch_size: 256, max_seq_length: 512 }], keep_step_count: 100000, keep_last: 10 },
  },
}
