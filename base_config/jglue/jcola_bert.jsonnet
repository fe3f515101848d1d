// JGLUE JCoLA with BERT: length 128, batch 32: see _recipe/jglue.libsonnet.
// JGLUE has no recipe for JCoLA; length and batch are those of its other sentence tasks (not checked against JCoLA's paper).
(import '../_recipe/jglue.libsonnet') + {
  data_reader: { dataset: 'jcola', jcola: { max_seq_length: 128 } },
  model: { name: 'bert_for_seq_cls', bert_for_seq_cls: { pretrained_model_name: 'tohoku-nlp/bert-base-japanese-v3' } },
}
