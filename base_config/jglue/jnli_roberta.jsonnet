// JGLUE JNLI with RoBERTa or XLM-R: length 128, batch 32: see _recipe/jglue.libsonnet.
(import '../_recipe/jglue.libsonnet') + {
  data_reader: { dataset: 'jnli', jnli: { max_seq_length: 128 } },
  model: { name: 'roberta_for_seq_cls', roberta_for_seq_cls: { pretrained_model_name: 'xlm-roberta-base' } },
}
