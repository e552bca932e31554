"""Finished logs come in, in cuts of time; what Dask's workers make of each cut goes out, as one process would have made it."""
