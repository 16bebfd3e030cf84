"""Doors: the command line and other ways in."""
