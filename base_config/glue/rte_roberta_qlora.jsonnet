// GLUE RTE with RoBERTa base and QLoRA (Dettmers et al., 2023, https://arxiv.org/abs/2305.14314, appendix B): the 4-bit format and the adapter of the
// paper, r 64, alpha 16, dropout 0.1 on all linear layers, learning rate 2e-4 and batch 16, over the epochs and the schedule of
// _recipe/lora_roberta.libsonnet. The paper trains language models. Not a reproduction.
(import '../_recipe/lora_roberta.libsonnet') + {
  data_reader: { dataset: 'rte', rte: { max_seq_length: 512 } },
  model+: {
    name: 'roberta_for_seq_cls',
    roberta_for_seq_cls: { pretrained_model_name: 'roberta-base' },
    peft+: {
      lora+: {
        r: 64,
        alpha: 16,
        dropout: 0.1,
        targets: ['query', 'key', 'value', 'attention_output', 'inner', 'outer'],
        quantize: 'nf4',
      },
    },
  },
  trainer+: { num_epochs: 30, grad_max_norm: 0.3 },
  optimizer+: { learning_rate: 2e-4, adamw+: { weight_decay: 0.0, betas: [0.9, 0.999] } },
}
