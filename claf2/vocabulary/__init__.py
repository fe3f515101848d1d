"""Vocabularies: built from a corpus with a lock file, measured, studied by sample size, and trimmed."""
