"""A trained model and held-out windows come in; the bundle that the sensor loads goes out, with its thresholds."""
