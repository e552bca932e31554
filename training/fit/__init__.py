"""Windows, texts and an experiment come in; a trained model goes out, with its checkpoints and curves."""
