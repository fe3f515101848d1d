// SQuAD 2.0 with RoBERTa (Liu et al., 2019, table 10; not checked against the paper's text): batch 48, 1.5e-5, 2 epochs, warm-up over
// 6 %: see _recipe/roberta.libsonnet. Windows as in the BERT recipe.
(import '../_recipe/roberta.libsonnet') + {
  data_reader: { dataset: 'squad_v2', squad_v2: { max_seq_length: 384, context_stride: 128, max_question_length: 64 } },
  model: { name: 'roberta_for_qa', roberta_for_qa: { pretrained_model_name: 'roberta-large', answer_maxlen: 30, null_threshold: 0.0 } },
  iterator+: { batch_size: 48 },
  trainer+: { num_epochs: 2 },
  optimizer+: { learning_rate: 1.5e-5 },
}
