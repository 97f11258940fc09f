"""Data sets and tracks on disk."""
