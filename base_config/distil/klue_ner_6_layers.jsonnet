// KLUE NER with every second layer of klue/bert-base, as DistilBERT is initialized (Sanh et al., 2019, section 3). The loss is that of DistilBERT's
// distillation on a task, applied to the tag of each token: see _recipe/distil_logits.libsonnet. All other numbers are those of the
// teacher, a run of klue/ner_bert.
(import '../klue/ner_bert.jsonnet') + (import '../_recipe/distil_logits.libsonnet') + {
  model+: { bert_for_tok_cls+: { keep_layers: [0, 2, 4, 6, 8, 10] } },
  objectives+: { distil+: { teachers: { klue_ner: 'logs/klue/ner_bert' } } },
}
