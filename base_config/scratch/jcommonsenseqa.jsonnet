// JCommonsenseQA with a small encoder made from scratch: see _recipe/scratch.libsonnet.
(import '../_recipe/scratch.libsonnet') + {
  data_reader: { dataset: 'jcommonsenseqa', jcommonsenseqa: { max_seq_length: 64 } },
  model: { name: 'bert_for_choice', bert_for_choice: (import '../_recipe/scratch_encoder.libsonnet') },
}
