// JGLUE JSQuAD with RoBERTa or XLM-R: length 384, batch 32: see _recipe/jglue.libsonnet.
(import '../_recipe/jglue.libsonnet') + {
  data_reader: { dataset: 'jsquad', jsquad: { max_seq_length: 384, context_stride: 128 } },
  model: { name: 'roberta_for_qa', roberta_for_qa: { pretrained_model_name: 'xlm-roberta-base', answer_maxlen: 30 } },
}
