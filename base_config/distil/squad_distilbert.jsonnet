// DistilBERT's second distillation, on SQuAD 1.1, by the defaults of its script (see _recipe/distil_logits.libsonnet): 5e-5, 3 epochs, no warm-up, no
// decay, clipping at 1.0, windows as BERT's. Batches are of 8 rows per GPU there; its README, which reports F1 86.9 (uncased) and 87.1 (cased), does not say
// how many GPUs, so 8 are used here. The teacher is a run of squad/v1_bert.
(import '../squad/v1_bert.jsonnet') + (import '../_recipe/distil_logits.libsonnet') + {
  model: { name: 'bert_for_qa', bert_for_qa: { pretrained_model_name: 'distilbert-base-cased', answer_maxlen: 30 } },
  iterator+: { batch_size: 8 },
  objectives+: { distil+: { teachers: { squad: 'logs/squad/v1_bert' } } },
  optimizer+: { adamw+: { weight_decay: 0.0 }, warmup_linear: { warmup_proportion: 0.0 } },
}
