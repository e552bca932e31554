"""Batches of packet records come in; windows over one table of packets go out, each a stream's last packets at the end of a
second, as the arrays that the model reads."""
