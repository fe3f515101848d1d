"""Evaluation: from a model and examples to a report of scores, losses and predictions. Weights never change here."""
