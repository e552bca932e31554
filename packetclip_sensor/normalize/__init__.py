"""Batches as they were read come in; batches whose packets are in order, each once, their sides right, go out."""
