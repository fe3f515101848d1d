// Supervised SimCSE on the triplets of KLUE NLI, with the recipe of KoSimCSE: see _recipe/kosimcse.libsonnet. KLUE NLI is 40 times smaller than KorNLI,
// hence evaluations every 20 steps.
(import '../_recipe/kosimcse.libsonnet') + {
  tasks: {
    klue_nli_triplets: { base_config: 'embed/klue_nli_triplets', mix: { average_weight: 0.0 } },
  } + (import '../_recipe/similarity_cls.libsonnet'),
  model: { name: 'encoder', encoder: { pretrained_model_name: 'klue/bert-base' } },
  trainer+: { eval_and_save_step_count: 20 },
}
