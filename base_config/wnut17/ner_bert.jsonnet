// WNUT-17 by the recipe of transformers' token-classification example (run_ner_no_trainer): length 128, batch 32, 2e-5, 3 epochs.
(import '../_recipe/bert.libsonnet') + {
  data_reader: { dataset: 'wnut17', wnut17: { max_seq_length: 128 } },
  model: { name: 'bert_for_tok_cls', bert_for_tok_cls: { pretrained_model_name: 'bert-base-cased' } },
}
