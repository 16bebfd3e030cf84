"""The version of Pharos, as files that it writes tell it."""

__version__ = "0.1.0"
