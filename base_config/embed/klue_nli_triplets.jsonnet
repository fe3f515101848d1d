// Triplets of KLUE NLI alone, selected by how often an entailment is found: see _recipe/kosimcse.libsonnet. klue_nli_simcse evaluates similarities as
// well.
(import '../_recipe/kosimcse.libsonnet') + {
  data_reader: { dataset: 'klue_nli_triplets', klue_nli_triplets: { max_seq_length: 50 } },
  iterator: { batch_size: 256 },
  model: { name: 'embed_in_batch', embed_in_batch: { pretrained_model_name: 'klue/bert-base', pooling: 'cls', temperature: 0.05 } },
  trainer+: { metric_key: 'ndcg_at_10', eval_and_save_step_count: 20 },
}
