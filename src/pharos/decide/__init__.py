"""Decide: contracts and their verdicts."""
