"""A trained model comes in; the bundle that the sensor loads goes out, with its operating point."""
