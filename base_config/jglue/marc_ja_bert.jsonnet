// JGLUE MARC-ja with BERT: length 512, batch 32: see _recipe/jglue.libsonnet.
(import '../_recipe/jglue.libsonnet') + {
  data_reader: { dataset: 'marc_ja', marc_ja: { max_seq_length: 512 } },
  model: { name: 'bert_for_seq_cls', bert_for_seq_cls: { pretrained_model_name: 'tohoku-nlp/bert-base-japanese-v3' } },
}
