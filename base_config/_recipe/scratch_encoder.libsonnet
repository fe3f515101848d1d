// The encoder of the `scratch` BaseConfigs.
{
  pretrained_model_name: 'scratch',
  architecture: {
    model_type: 'bert',
    hidden_size: 192,
    num_hidden_layers: 4,
    num_attention_heads: 4,
    intermediate_size: 768,
    max_position_embeddings: 512,
  },
}
