// TSDAE: a sentence encoder from plain sentences (Wang et al., 2021, https://arxiv.org/abs/2104.06979), continued from a pre-trained model. Batches of 8,
// 3e-5, warm-up of a tenth of the steps, 75 tokens, the first token as the vector, 1 epoch of 1 million sentences of Wikipedia (125,000 steps): the README
// and the scripts of TSDAE in sentence-transformers, commit cad2119. What they leave open (no decay, clipping at 1.0, eps 1e-8) are the defaults of its trainer.
// The paper and that README delete 60 % of the words, and so does this file. The three scripts and the docstring of the loss keep a word with
// the probability `del_ratio` of 0.6, so they delete 40 %: --deletion.rate '[[0, 0.4]]'.
{
  data_reader: {
    dataset: 'corpus_tsdae',
    corpus_tsdae: {
      sources: [{ path: 'corpus/*.txt' }],
      valid_documents: 500,
      instances: { name: 'sentence' },
      masks: { name: 'deletion', deletion: { rate: [[0, 0.6]], unit: 'word' } },
    },
  },
  model: { name: 'tsdae', tsdae: { pretrained_model_name: 'bert-base-uncased', pooling: 'cls' } },
  trainer: {
    name: 'pretrain',
    eval_and_save_step_count: 5000,
    grad_max_norm: 1.0,
    pretrain: { phases: [{ until: 125000, batch_size: 8, max_seq_length: 75 }], keep_step_count: 25000 },
  },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 3e-5,
    adamw: { weight_decay: 0.0, betas: [0.9, 0.999], eps: 1e-8 },
    lr_scheduler_type: 'warmup_linear',
    warmup_linear: { warmup_proportion: 0.1 },
  },
  seed_num: 42,
}
