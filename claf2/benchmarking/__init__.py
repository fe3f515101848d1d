"""The bench: many models on many tasks with several seeds, their comparison, reports, and a gate for CI."""
