"""A plan of runs comes in; a store of results goes out, one file of figures and one of predictions a run."""
