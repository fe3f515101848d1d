// KULLM as its authors' survey of Korean decoders describes it: Polyglot-Ko in 8 bits, LoRA (r 16, alpha 32), AdamW at 3e-4, cosine with a warm-up of 5 %, batches of 256, 5
// epochs, gradients clipped. Polyglot is a GPT-NeoX: its query, key and value are one matrix, query_key_value. instruct/kullm_v2_polyglot is
// what the repository runs. Decoding as published: of its five settings, temperature, top_k and top_p have no effect without sampling.
{
  data_reader: { dataset: 'kullm', kullm: { max_seq_length: 512, layout: 'kullm' } },
  iterator: { batch_size: 16, eval_batch_size: 16 },
  model: {
    name: 'instruct',
    instruct: {
      pretrained_model_name: 'EleutherAI/polyglot-ko-5.8b',
      decoding: { do_sample: false, num_beams: 4, temperature: 0.1, top_k: 40, top_p: 0.75, max_new_tokens: 128 },
    },
    peft: { name: 'lora', lora: { r: 16, alpha: 32, targets: ['query_key_value'], quantize: 'int8' } },
  },
  trainer: { num_epochs: 5, gradient_accumulation_steps: 16, grad_max_norm: 1.0 },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 3e-4,
    adamw: { weight_decay: 0.0 },
    lr_scheduler_type: 'warmup_cosine',
    warmup_cosine: { warmup_proportion: 0.05 },
  },
}
