// The decoder of the `scratch` BaseConfigs: 4 layers of width 256, as Llama builds them, with a byte-level vocabulary, so that every text of
// every language can be generated. The numbers are claf2's own. initializer_range is about 1 / sqrt(256).
{
  model: {
    pretrained_model_name: 'scratch',
    architecture: {
      model_type: 'llama',
      hidden_size: 256,
      num_hidden_layers: 4,
      num_attention_heads: 4,
      num_key_value_heads: 4,
      intermediate_size: 704,
      max_position_embeddings: 512,
      initializer_range: 0.06,
      tie_word_embeddings: true,
    },
  },
  tokenizer: {
    word: { name: 'byte_level' },
    subword: { name: 'byte_bpe', byte_bpe: { vocab_size: 4000 } },
  },
}
