"""A YAML file comes in; a checked, typed `Config` goes out, or one error that names line, key and remedy."""
