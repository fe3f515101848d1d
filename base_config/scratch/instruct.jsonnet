// A small decoder that is tuned on instructions: that of scratch/pretrain_decoder if `--pretrained_model_name logs/scratch/pretrain_decoder/best
// --token null` names it, else a fresh one. The numbers are claf2's own.
local decoder = import '../_recipe/scratch_decoder.libsonnet';
{
  data_reader: { dataset: 'korean_chat', valid_fraction: 0.05, korean_chat: { max_seq_length: 256, layout: 'plain' } },
  iterator: { batch_size: 16 },
  model: { name: 'instruct', instruct: decoder.model },
  token: { tokenizer: decoder.tokenizer },
  trainer: { num_epochs: 3 },
  optimizer: {
    op_type: 'adamw',
    learning_rate: 5e-4,
    adamw: { weight_decay: 0.0 },
    lr_scheduler_type: 'warmup_cosine',
    warmup_cosine: { warmup_proportion: 0.05 },
  },
}
