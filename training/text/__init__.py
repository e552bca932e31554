"""Sentences by class, mission graphs and a text encoder come in; the texts of windows and their frozen features go out."""
