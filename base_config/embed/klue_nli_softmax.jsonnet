// Sentence-BERT on KLUE NLI: softmax over (u, v, |u - v|), 1 epoch: see _recipe/sbert.libsonnet. KorSTS and KLUE STS select the checkpoint.
(import '../_recipe/sbert.libsonnet') + {
  tasks: {
    klue_nli: { base_config: 'embed/klue_nli_alone', mix: { average_weight: 0.0 } },
  } + (import '../_recipe/similarity.libsonnet'),
  model: { name: 'encoder', encoder: { pretrained_model_name: 'klue/bert-base' } },
  trainer+: { name: 'finetune', eval_and_save_step_count: 500 },
}
