// NSMC as KoELECTRA fine-tunes it (monologg/KoELECTRA, finetune/config/nsmc): length 128, batch 32, 5e-5, 10 epochs, no decay, no
// warm-up. The test set selects, as in every published score: cut a development set of your own with data_reader.valid_fraction.
(import '../_recipe/bert.libsonnet') + {
  data_reader: { dataset: 'nsmc', nsmc: { max_seq_length: 128 } },
  model: { name: 'bert_for_seq_cls', bert_for_seq_cls: { pretrained_model_name: 'klue/bert-base' } },
  trainer+: { num_epochs: 10 },
  optimizer+: { learning_rate: 5e-5, adamw+: { weight_decay: 0.0 }, warmup_linear: { warmup_proportion: 0.0 } },
}
