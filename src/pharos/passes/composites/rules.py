"""Rules: the modules whose rules are in force."""

from pharos.passes.composites import activations, attention, linear, norms, rotary

__all__ = ["activations", "attention", "linear", "norms", "rotary"]
