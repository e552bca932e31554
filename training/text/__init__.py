"""Sentences, knowledge graphs and the frozen text encoder: what the model learns words from."""
