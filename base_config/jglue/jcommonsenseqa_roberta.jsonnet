// JGLUE JCommonsenseQA with RoBERTa or XLM-R: length 64, batch 64: see _recipe/jglue.libsonnet.
(import '../_recipe/jglue.libsonnet') + {
  data_reader: { dataset: 'jcommonsenseqa', jcommonsenseqa: { max_seq_length: 64 } },
  model: { name: 'roberta_for_choice', roberta_for_choice: { pretrained_model_name: 'xlm-roberta-base' } },
  iterator+: { batch_size: 64 },
}
