// The encoder of the `scratch` BaseConfigs. BERT's initializer_range of 0.02 suits layers 768 wide. At width 128 it makes
// queries and keys so small that every token attends to all others alike, and the gradient that would change that is
// near zero: whether a run learns within its epochs then depends on the seed and on the machine's rounding.
// 0.09 is about 1 / sqrt(128), which keeps the variance of a layer's inputs.
{
  pretrained_model_name: 'scratch',
  architecture: {
    model_type: 'bert',
    hidden_size: 128,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    intermediate_size: 512,
    max_position_embeddings: 512,
    initializer_range: 0.09,
  },
}
