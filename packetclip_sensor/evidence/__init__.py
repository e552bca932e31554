"""Scored windows in; for each the log-odds that its stream's last hour gives a mission out."""
