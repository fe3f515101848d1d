// The loss of DistilBERT's distillation on a task (huggingface/transformers, examples/research_projects/distillation/
// run_squad_w_distillation.py, file version 1001bb0): half the labels, half the teacher's distributions at temperature 2, times its square.
// The script measures the divergence from the teacher, and claf2 the cross-entropy: the gradients are the same. The script's
// distributions of starts and ends include padding; claf2's do not.
{ objectives: { distil: { weight: 0.5, temperature: 2.0 } } }
