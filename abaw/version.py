"""The version, on its own so that nothing else is read to know it."""

__version__ = "0.1.0"
