"""Judged windows come in and some go out as hunt windows; a sentence comes in and the nearest of the stored ones go out."""
