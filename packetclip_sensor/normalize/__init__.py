"""Batches as they were read come in; batches with packets in order, each once, its sides right, go out."""
