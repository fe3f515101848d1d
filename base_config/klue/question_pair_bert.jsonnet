// Korean question pairs as KoELECTRA fine-tunes them, 10 epochs: see _recipe/koelectra.libsonnet.
// KoELECTRA cuts a development set off; the published test set selects here.
(import '../_recipe/koelectra.libsonnet') + {
  data_reader: { dataset: 'question_pair', question_pair: { max_seq_length: 128 } },
  model: { name: 'bert_for_seq_cls', bert_for_seq_cls: { pretrained_model_name: 'klue/bert-base' } },
}
