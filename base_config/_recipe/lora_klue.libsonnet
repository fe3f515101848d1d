// LoRA on KLUE: the recipe of KLUE-baseline for full fine-tuning (see _recipe/klue_baseline.libsonnet) with the adapter of the LoRA paper for RoBERTa
// base (Hu et al., 2021: r 8 and alpha 8 on query and value) and ten times the learning rate. A choice of claf2's; no score is published.
(import 'klue_baseline.libsonnet') + {
  model+: { peft: { name: 'lora', lora: { r: 8, alpha: 8, dropout: 0.0, targets: ['query', 'value'] } } },
  optimizer+: { learning_rate: 5e-4 },
}
