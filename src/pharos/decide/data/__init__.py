"""Data: what a file or folder holds and how it is built, measured from a sample; nothing is executed."""

from pharos.decide.data.facts import KINDS, Data
from pharos.decide.data.inspect import inspect

__all__ = ["KINDS", "Data", "inspect"]
