// 3i4K (intents) by the recipe of NSMC, 3 epochs: see _recipe/koelectra.libsonnet.
// No published recipe for encoders of this kind.
(import '../_recipe/koelectra.libsonnet') + {
  data_reader: { dataset: '3i4k', '3i4k': { max_seq_length: 128 } },
  model: { name: 'bert_for_seq_cls', bert_for_seq_cls: { pretrained_model_name: 'klue/bert-base' } },
  trainer+: { num_epochs: 3, eval_and_save_step_count: 'epoch' },
}
