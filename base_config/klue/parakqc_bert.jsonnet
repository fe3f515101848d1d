// ParaKQC, the topic of a request, by the recipe of NSMC, 3 epochs: see _recipe/koelectra.libsonnet.
// No published recipe; the corpus has no split, a tenth is cut off.
(import '../_recipe/koelectra.libsonnet') + {
  data_reader: { dataset: 'parakqc', valid_fraction: 0.1, parakqc: { max_seq_length: 128 } },
  model: { name: 'bert_for_seq_cls', bert_for_seq_cls: { pretrained_model_name: 'klue/bert-base' } },
  trainer+: { num_epochs: 3, eval_and_save_step_count: 'epoch' },
}
