"""Machines: answer questions about a collection with an index and a model, or find intent and slots of a text."""
