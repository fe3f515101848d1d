// What selects a sentence encoder that is trained on other data than similarities: the mean of the rank correlations on KorSTS and KLUE STS, which are
// only evaluated.
{
  korsts_embed: { base_config: 'embed/korsts_cosine', model: { embed: { pooling: 'mean' } }, mix: { loss_weight: 0.0 } },
  klue_sts_embed: { base_config: 'embed/klue_sts_cosine', model: { embed: { pooling: 'mean' } }, mix: { loss_weight: 0.0 } },
}
