"""Runs: from an experiment to a run's folder, and from a run's folder to answers."""
