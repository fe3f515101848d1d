// NSMC with every second layer of klue/bert-base, as DistilBERT is initialized (Sanh et al., 2019, section 3), and the loss of DistilBERT's distillation
// on a task: see _recipe/distil_logits.libsonnet. All other numbers are those of the teacher, a run of klue/nsmc_bert.
(import '../klue/nsmc_bert.jsonnet') + (import '../_recipe/distil_logits.libsonnet') + {
  model+: { bert_for_seq_cls+: { keep_layers: [0, 2, 4, 6, 8, 10] } },
  objectives+: { distil+: { teachers: { nsmc: 'logs/klue/nsmc_bert' } } },
}
