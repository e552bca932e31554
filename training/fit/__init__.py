"""Windows and texts come in; a trained model with its checkpoints goes out."""
