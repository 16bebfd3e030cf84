"""Plots, one a file: a function from a result to its figure; a file is a plot when it is here."""
