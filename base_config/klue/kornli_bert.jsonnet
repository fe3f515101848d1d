// KorNLI as KoELECTRA fine-tunes it, batch 64, 15 epochs: see _recipe/koelectra.libsonnet.
(import '../_recipe/koelectra.libsonnet') + {
  data_reader: { dataset: 'kornli', kornli: { max_seq_length: 128 } },
  model: { name: 'bert_for_seq_cls', bert_for_seq_cls: { pretrained_model_name: 'klue/bert-base' } },
  iterator+: { batch_size: 64 },
  trainer+: { num_epochs: 15, eval_and_save_step_count: 3000 },
}
