"""What every package may use: counters, durable files, the rejects file, distinct counts, time parsing, shipped resources. No
traffic passes here."""
