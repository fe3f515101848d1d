// SQuAD 1.1 with BERT (Devlin et al., 2019, sections 4.2 and 4.3; not checked against the paper's text): batch 32, 5e-5, 3 epochs, windows of 384
// tokens that start every 128, questions of at most 64: see _recipe/bert.libsonnet.
(import '../_recipe/bert.libsonnet') + {
  data_reader: { dataset: 'squad', squad: { max_seq_length: 384, context_stride: 128, max_question_length: 64 } },
  model: { name: 'bert_for_qa', bert_for_qa: { pretrained_model_name: 'bert-base-cased', answer_maxlen: 30 } },
  optimizer+: { learning_rate: 5e-5 },
}
