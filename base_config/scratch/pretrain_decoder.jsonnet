// A small decoder that is pre-trained on a generated sample or on your own text: see _recipe/scratch_decoder.libsonnet. Rows of 128 tokens.
// The numbers are claf2's own, chosen so that the sample is learned within two minutes on two processors.
local decoder = import '../_recipe/scratch_decoder.libsonnet';
{
  data_reader: {
    dataset: 'corpus_clm',
    corpus_clm: { sources: [{ path: 'corpus.txt' }], valid_documents: 100, masks: { name: 'next_token' } },
  },
  model: { name: 'clm', clm: decoder.model },
  token: { tokenizer: decoder.tokenizer },
  trainer: {
    name: 'pretrain',
    eval_and_save_step_count: 100,
    pretrain: { phases: [{ until: 400, batch_size: 16, max_seq_length: 128 }], keep_step_count: 200 },
  },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 1e-3,
    adamw: { weight_decay: 0.1, betas: [0.9, 0.95], eps: 1e-8 },
    lr_scheduler_type: 'warmup_cosine',
    warmup_cosine: { warmup_proportion: 0.1 },
  },
}
