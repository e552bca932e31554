"""Packet bytes, relations between packets and features of concepts come in; embeddings and logits go out."""
