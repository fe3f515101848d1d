// Supervised SimCSE on the triplets of KorNLI's part of MultiNLI: see _recipe/kosimcse.libsonnet.
(import '../_recipe/kosimcse.libsonnet') + {
  tasks: {
    kornli_triplets: { base_config: 'embed/kornli_triplets', mix: { average_weight: 0.0 } },
  } + (import '../_recipe/similarity_cls.libsonnet'),
  model: { name: 'encoder', encoder: { pretrained_model_name: 'klue/bert-base' } },
}
