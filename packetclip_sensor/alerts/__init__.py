"""Batches of verdicts come in; batches of explained alerts go out: suppression, episodes, explanation."""
