"""Labelled captures come in; windows with labels, the training set made of them, and balanced draws from it go out."""
