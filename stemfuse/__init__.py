"""Fusing music separators: cache stems, find or learn weights, score, explain and apply them."""

__version__ = "0.1.0"
