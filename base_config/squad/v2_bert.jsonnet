// SQuAD 2.0 with BERT (Devlin et al., 2019, sections 4.2 and 4.3; not checked against the paper's text): batch 48, 5e-5, 2 epochs, windows of 384
// tokens that start every 128, questions of at most 64: see _recipe/bert.libsonnet.
(import '../_recipe/bert.libsonnet') + {
  data_reader: { dataset: 'squad_v2', squad_v2: { max_seq_length: 384, context_stride: 128, max_question_length: 64 } },
  model: { name: 'bert_for_qa', bert_for_qa: { pretrained_model_name: 'bert-base-cased', answer_maxlen: 30, null_threshold: 0.0 } },
  optimizer+: { learning_rate: 5e-5 },
  iterator+: { batch_size: 48 },
  trainer+: { num_epochs: 2 },
}
