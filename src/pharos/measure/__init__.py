"""Measure: run it and time it."""
