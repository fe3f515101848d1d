// KULLM as its repository trains it (nlpai-lab/KULLM, train_polyglot.sh, commit 2e25dca): Polyglot-Ko 12.8B, batches of 128, cosine with a warm-up
// of 3 %, 512 tokens, loss on the instructions as well (train_on_inputs), no decay. It leaves learning rate and epochs to variables: 3e-4 is
// that of instruct/kullm_polyglot, and 8 epochs those of its README for version 2.
(import 'kullm_polyglot.jsonnet') + {
  data_reader+: { kullm+: { learns_prompts: true } },
  model+: { instruct+: { pretrained_model_name: 'EleutherAI/polyglot-ko-12.8b' } },
  trainer+: { num_epochs: 8, gradient_accumulation_steps: 8 },
  optimizer+: { warmup_cosine: { warmup_proportion: 0.03 } },
}
