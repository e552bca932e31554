"""Logs of labelled captures in; the evidence model of a bundle and its figures out."""
