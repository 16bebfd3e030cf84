"""Measure: fit the constants of the closed forms to measured rows."""
