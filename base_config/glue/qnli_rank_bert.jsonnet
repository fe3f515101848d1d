// QNLI as MT-DNN's pairwise ranking, with BERT, base or large: see _recipe/bert.libsonnet.
(import '../_recipe/bert.libsonnet') + {
  data_reader: { dataset: 'qnli_rank', qnli_rank: { max_seq_length: 128 } },
  model: { name: 'bert_for_choice', bert_for_choice: { pretrained_model_name: 'bert-base-cased' } },
}
