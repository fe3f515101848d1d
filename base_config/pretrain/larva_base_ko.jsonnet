// NAVER's LaRva-base for Korean as its team described it in a talk: BERT-base without next sentences, a cased vocabulary of 32,000, 1,024 rows
// of 128 tokens for 900,000 steps, then 256 of 512 for 100,000. Whole eojeols are masked, and the share of n-grams rises every 100,000 steps. The talk
// gives no optimizer, so BERT's is used (_recipe/pretrain_bert.libsonnet); that n-grams rise to 40 % is claf2's choice.
(import '../_recipe/pretrain_bert.libsonnet') + {
  data_reader: {
    dataset: 'corpus_mlm',
    corpus_mlm: {
      sources: [{ path: 'corpus/*.txt' }],
      valid_documents: 2000,
      instances: { name: 'full_sentences' },
      masks: {
        name: 'mixture',
        mixture: {
          rate: [[0, 0.15]],
          parts: { eojeol: [[0, 1.0], [1000000, 0.6]], ngram: [[0, 0.0], [1000000, 0.4]] },
          update_every: 100000,
        },
      },
    },
  },
  token: { tokenizer: {
    word: { name: 'bert_basic', bert_basic: { do_lower_case: false } },
    subword: { name: 'wordpiece', wordpiece: { vocab_size: 32000 } },
  } },
  model: { name: 'encoder', encoder: (import '../_recipe/pretrain_encoder.libsonnet') },
  trainer+: {
    pretrain: {
      phases: [
        { until: 900000, batch_size: 1024, max_seq_length: 128 },
        { until: 1000000, batch_size: 256, max_seq_length: 512 },
      ],
      keep_step_count: 100000,
    },
  },
}
