"""Data: from the examples of a split to the batches of a run."""
