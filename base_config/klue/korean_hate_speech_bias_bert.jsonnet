// The bias of Korean hate speech, by the recipe of its other column, 10 epochs: see _recipe/koelectra.libsonnet.
// No published recipe.
(import '../_recipe/koelectra.libsonnet') + {
  data_reader: { dataset: 'korean_hate_speech_bias', korean_hate_speech_bias: { max_seq_length: 128 } },
  model: { name: 'bert_for_seq_cls', bert_for_seq_cls: { pretrained_model_name: 'klue/bert-base' } },
}
