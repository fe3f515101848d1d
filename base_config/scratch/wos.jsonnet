// KLUE DST (WoS) with a small encoder made from scratch: see _recipe/scratch.libsonnet. The attention of the generator has no
// scale, so it is sharper the wider the encoder is. At width 128, with dropout, or with a shorter warm-up, more seeds do not
// learn the sample (docs/scratch.md).
(import '../_recipe/scratch.libsonnet') + {
  data_reader: { dataset: 'wos', wos: { max_seq_length: 256 } },
  model: {
    name: 'bert_for_dst',
    bert_for_dst: (import '../_recipe/scratch_encoder.libsonnet') + {
      architecture+: {
        hidden_size: 64,
        intermediate_size: 256,
        initializer_range: 0.125,
        hidden_dropout_prob: 0,
        attention_probs_dropout_prob: 0,
      },
    },
  },
  iterator: { batch_size: 8 },
  trainer+: { num_epochs: 12 },
  optimizer+: { warmup_linear+: { warmup_proportion: 0.3 } },
}
