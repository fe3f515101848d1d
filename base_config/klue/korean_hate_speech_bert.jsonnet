// Korean hate speech as KoELECTRA fine-tunes it, 10 epochs: see _recipe/koelectra.libsonnet.
(import '../_recipe/koelectra.libsonnet') + {
  data_reader: { dataset: 'korean_hate_speech', korean_hate_speech: { max_seq_length: 128 } },
  model: { name: 'bert_for_seq_cls', bert_for_seq_cls: { pretrained_model_name: 'klue/bert-base' } },
}
