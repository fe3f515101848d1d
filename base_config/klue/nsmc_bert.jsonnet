// NSMC as KoELECTRA fine-tunes it, 10 epochs: see _recipe/koelectra.libsonnet.
// The test set selects, as in every published score: cut a development set of your own with data_reader.valid_fraction.
(import '../_recipe/koelectra.libsonnet') + {
  data_reader: { dataset: 'nsmc', nsmc: { max_seq_length: 128 } },
  model: { name: 'bert_for_seq_cls', bert_for_seq_cls: { pretrained_model_name: 'klue/bert-base' } },
  trainer+: { eval_and_save_step_count: 1000 },
}
