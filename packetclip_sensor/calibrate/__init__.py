"""A site's own logs come in; thresholds for a false-alert budget go out."""
