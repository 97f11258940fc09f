"""Blends in the form of other programs."""
