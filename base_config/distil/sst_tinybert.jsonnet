// GLUE SST-2 by TinyBERT's last stage: see _recipe/tinybert_logits.libsonnet. The teacher is a run of glue/sst_bert with bert-base-uncased.
(import '../_recipe/tinybert_logits.libsonnet') + {
  data_reader: { dataset: 'sst', sst: { max_seq_length: 128 } },
  model: {
    name: 'bert_for_seq_cls',
    bert_for_seq_cls: { pretrained_model_name: 'huawei-noah/TinyBERT_General_4L_312D' },
  },
  objectives+: { distil+: { teachers: { sst: 'logs/glue/sst_bert' } } },
}
