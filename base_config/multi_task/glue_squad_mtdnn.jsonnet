// MT-DNN on GLUE and SQuAD 1.1, as naver/claf (commit 6f45b1e, base_config/multi_task/bert_base_glue+squad.json) mixed them: SQuAD in
// batches of 12. See _recipe/mtdnn.libsonnet.
(import 'glue_mtdnn.jsonnet') + {
  tasks+: { squad: { base_config: 'squad/v1_bert', iterator: { batch_size: 12 } } },
}
