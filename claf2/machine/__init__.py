"""Machines: finished models and an index that answer together. Questions about a collection, and intent with slots."""
