"""Checkpoints in object stores, at URLs, and in folders elsewhere."""
