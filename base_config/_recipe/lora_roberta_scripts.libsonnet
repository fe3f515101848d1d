// LoRA with RoBERTa base on GLUE as the scripts of microsoft/LoRA do it (commit c4593f0, examples/NLU/roberta_base_*.sh): alpha 16, and
// 8 GPUs, so that a batch has 8 times as many rows as the paper says. Seed 0. See _recipe/lora_roberta.libsonnet.
(import 'lora_roberta.libsonnet') + {
  iterator: { batch_size: 128 },
  model+: { peft+: { lora+: { alpha: 16 } } },
  seed_num: 0,
}
