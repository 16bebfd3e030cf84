"""Inputs of transformers models whose argument names do not tell their shapes: one entry a kind."""
