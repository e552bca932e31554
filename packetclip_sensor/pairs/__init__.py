"""Logs and labels come in; text/packet pairs in Parquet go out, for training."""
