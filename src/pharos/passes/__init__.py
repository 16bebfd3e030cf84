"""Passes: graph to kernels, graph to memory."""
