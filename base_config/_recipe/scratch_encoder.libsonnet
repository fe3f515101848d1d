// The encoder of the `scratch` BaseConfigs.
{
  pretrained_model_name: 'scratch',
  architecture: {
    model_type: 'bert',
    hidden_size: 128,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    intermediate_size: 512,
    max_position_embeddings: 512,
  },
}
