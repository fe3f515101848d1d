// Unsupervised SimCSE (Gao et al., 2021; princeton-nlp/SimCSE, README and run_unsup_example.sh, commit 3ebee8f): each text twice, and dropout makes the
// difference; batch 64, 3e-5, temperature 0.05, length 32, [CLS], 1 epoch, evaluated every 125 steps. Give the lines with
// --sentences.train_file_path. Not reproduced: a million sentences of the English Wikipedia, and the MLP on [CLS] in training.
{
  tasks: {
    sentences: { base_config: 'embed/sentences_alone', mix: { average_weight: 0.0 } },
  } + (import '../_recipe/similarity_cls.libsonnet'),
  model: { name: 'encoder', encoder: { pretrained_model_name: 'klue/bert-base' } },
  trainer: { name: 'finetune', num_epochs: 1, eval_and_save_step_count: 125, grad_max_norm: 1.0 },
  optimizer: (import 'sentences_alone.jsonnet').optimizer,
  seed_num: 42,
}
