// JGLUE MARC-ja with RoBERTa or XLM-R: length 512, batch 32: see _recipe/jglue.libsonnet.
(import '../_recipe/jglue.libsonnet') + {
  data_reader: { dataset: 'marc_ja', marc_ja: { max_seq_length: 512 } },
  model: { name: 'roberta_for_seq_cls', roberta_for_seq_cls: { pretrained_model_name: 'xlm-roberta-base' } },
}
