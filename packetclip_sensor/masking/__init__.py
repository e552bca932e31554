"""Evidence packets in; out comes what of their bytes may be shown."""
