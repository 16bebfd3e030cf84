"""Machines: the catalogue and the efficiency profiles."""
