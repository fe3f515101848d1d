// KULLM v2 as its repository trains it (nlpai-lab/KULLM, README of commit 05c1c6d): Polyglot-Ko 12.8B, batches of 128, 8 epochs, LoRA (r 8, alpha 16), cosine with a warm-up of
// 10 % (train_polyglot.sh, commit 2e25dca, has 3 %), 512 tokens, 2,000 rows for validation, loss on the instructions as well (train_on_inputs), no
// decay. It leaves the learning rate to a variable: 3e-4 is that of instruct/kullm_polyglot.
(import 'kullm_polyglot.jsonnet') + {
  data_reader+: { valid_fraction: 0.0131, kullm+: { learns_prompts: true } },
  model+: {
    instruct+: { pretrained_model_name: 'EleutherAI/polyglot-ko-12.8b' },
    peft+: { lora+: { r: 8, alpha: 16, dropout: 0.05 } },
  },
  trainer+: { num_epochs: 8, gradient_accumulation_steps: 8 },
  optimizer+: { warmup_cosine: { warmup_proportion: 0.1 } },
}
