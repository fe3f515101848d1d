// PAWS-X in Korean as KoELECTRA fine-tunes it, 3e-5, 15 epochs: see _recipe/koelectra.libsonnet.
(import '../_recipe/koelectra.libsonnet') + {
  data_reader: { dataset: 'paws_ko', paws_ko: { max_seq_length: 128 } },
  model: { name: 'bert_for_seq_cls', bert_for_seq_cls: { pretrained_model_name: 'klue/bert-base' } },
  trainer+: { num_epochs: 15, eval_and_save_step_count: 1000 },
  optimizer+: { learning_rate: 3e-5 },
}
