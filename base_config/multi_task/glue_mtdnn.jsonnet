// MT-DNN on GLUE without WNLI, which it leaves out: see _recipe/mtdnn.libsonnet. Dropouts are those of section 4.2 of the paper.
(import '../_recipe/mtdnn.libsonnet') + {
  tasks: {
    cola: { base_config: 'glue/cola_bert', model: { bert_for_seq_cls: { dropout: 0.05 } } },
    sst: { base_config: 'glue/sst_bert' },
    mrpc: { base_config: 'glue/mrpc_bert' },
    stsb: { base_config: 'glue/stsb_bert' },
    qqp: { base_config: 'glue/qqp_bert' },
    mnli: { base_config: 'glue/mnli_bert', model: { bert_for_seq_cls: { dropout: 0.3 } } },
    qnli: { base_config: 'glue/qnli_bert' },
    rte: { base_config: 'glue/rte_bert' },
  },
  model: { name: 'bert_for_multi', bert_for_multi: { pretrained_model_name: 'bert-base-cased' } },
}
