// JGLUE JSTS with BERT: length 128, batch 32: see _recipe/jglue.libsonnet.
(import '../_recipe/jglue.libsonnet') + {
  data_reader: { dataset: 'jsts', jsts: { max_seq_length: 128 } },
  model: { name: 'bert_for_reg', bert_for_reg: { pretrained_model_name: 'tohoku-nlp/bert-base-japanese-v3' } },
}
