// JGLUE JCommonsenseQA with BERT: length 64, batch 64: see _recipe/jglue.libsonnet.
(import '../_recipe/jglue.libsonnet') + {
  data_reader: { dataset: 'jcommonsenseqa', jcommonsenseqa: { max_seq_length: 64 } },
  model: { name: 'bert_for_choice', bert_for_choice: { pretrained_model_name: 'tohoku-nlp/bert-base-japanese-v3' } },
  iterator+: { batch_size: 64 },
}
