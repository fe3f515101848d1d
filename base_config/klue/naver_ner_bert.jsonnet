// Naver NER as KoELECTRA fine-tunes it, 20 epochs: see _recipe/koelectra.libsonnet.
// The test set selects, as there.
(import '../_recipe/koelectra.libsonnet') + {
  data_reader: { dataset: 'naver_ner', naver_ner: { max_seq_length: 128 } },
  model: { name: 'bert_for_tok_cls', bert_for_tok_cls: { pretrained_model_name: 'klue/bert-base' } },
  trainer+: { num_epochs: 20, eval_and_save_step_count: 1000 },
}
