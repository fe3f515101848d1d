// BERT-base from scratch: see _recipe/pretrain_bert.libsonnet. Masked tokens and next sentences, 15 % of the tokens. Rows of 128 tokens
// for 90 % of the steps, then of 512 (README of google-research/bert, commit 04f9e5d, "Pre-training tips"); 256 rows, 1M steps. BERT's data were
// masked once in ten ways; here the masks are new in every epoch. The vocabulary is learned from the corpus unless vocab_path names one.
(import '../_recipe/pretrain_bert.libsonnet') + {
  data_reader: {
    dataset: 'corpus_mlm_nsp',
    corpus_mlm_nsp: {
      sources: [{ path: 'corpus/*.txt' }],
      valid_documents: 2000,
      instances: { name: 'sentence_pair', sentence_pair: { short_probability: 0.1 } },
      masks: { name: 'token', token: { rate: [[0, 0.15]] } },
    },
  },
  token: { tokenizer: {
    word: { name: 'bert_basic', bert_basic: { do_lower_case: true } },
    subword: { name: 'wordpiece', wordpiece: { vocab_size: 30522 } },
  } },
  model: { name: 'encoder', encoder: (import '../_recipe/pretrain_encoder.libsonnet') },
  trainer+: {
    pretrain: {
      phases: [
        { until: 900000, batch_size: 256, max_seq_length: 128 },
        { until: 1000000, batch_size: 256, max_seq_length: 512 },
      ],
      keep_step_count: 100000,
    },
  },
}
