"""The sensor as a service: its checkpoint, health, checks before a start, and limits under load."""
