"""Checks of data sets: duplicates, leakage, conflicting and suspicious labels, personal data, damaged text."""
