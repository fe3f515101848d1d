// JGLUE JSQuAD with BERT: length 384, batch 32: see _recipe/jglue.libsonnet.
(import '../_recipe/jglue.libsonnet') + {
  data_reader: { dataset: 'jsquad', jsquad: { max_seq_length: 384, context_stride: 128 } },
  model: { name: 'bert_for_qa', bert_for_qa: { pretrained_model_name: 'tohoku-nlp/bert-base-japanese-v3', answer_maxlen: 30 } },
}
