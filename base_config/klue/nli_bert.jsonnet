// KLUE NLI with BERT base: length 128, batch 32, 5e-5, 5 epochs, warm-up over 0.1, by accuracy:
// see _recipe/klue_baseline.libsonnet.
(import '../_recipe/klue_baseline.libsonnet') + {
  data_reader: { dataset: 'klue_nli', klue_nli: { max_seq_length: 128 } },
  model: { name: 'bert_for_seq_cls', bert_for_seq_cls: { pretrained_model_name: 'klue/bert-base' } },
  trainer+: { num_epochs: 5, metric_key: 'accuracy' },
}
