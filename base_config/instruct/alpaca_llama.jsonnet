// Stanford Alpaca (tatsu-lab/stanford_alpaca, the training command of its README): AdamW at 2e-5, batches of 128, 3 epochs, 512 tokens, cosine with a
// warm-up of 3 %, no decay; loss on answers alone. LLaMA's weights are the ones that you have access to.
{
  data_reader: { dataset: 'alpaca', valid_fraction: 0.02, alpaca: { max_seq_length: 512, layout: 'alpaca' } },
  iterator: { batch_size: 16, eval_batch_size: 16 },
  model: { name: 'instruct', instruct: { pretrained_model_name: 'huggyllama/llama-7b' } },
  trainer: { num_epochs: 3, gradient_accumulation_steps: 8, grad_max_norm: 1.0 },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 2e-5,
    adamw: { weight_decay: 0.0 },
    lr_scheduler_type: 'warmup_cosine',
    warmup_cosine: { warmup_proportion: 0.03 },
  },
}
