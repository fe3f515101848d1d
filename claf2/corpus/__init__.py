"""Text corpora: where documents come from, how they are cleaned, and how they become data for pre-training."""
