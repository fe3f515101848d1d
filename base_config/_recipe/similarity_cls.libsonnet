// See similarity.libsonnet: the same of the first token's vector.
(import 'similarity.libsonnet') + {
  korsts_embed+: { model: { embed: { pooling: 'cls' } } },
  klue_sts_embed+: { model: { embed: { pooling: 'cls' } } },
}
