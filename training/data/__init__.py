"""Labelled logs and captures come in; windows with labels and their batches go out."""
