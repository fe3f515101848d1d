// The sizes of BERT-base, with fresh weights: 12 layers of width 768 (Devlin et al., 2019).
{
  pretrained_model_name: 'scratch',
  architecture: {
    model_type: 'bert',
    hidden_size: 768,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    intermediate_size: 3072,
    max_position_embeddings: 512,
  },
}
