"""Fieldwright: from a PDE to a neural surrogate you can trust, in one command."""

__version__ = "0.1.0"
