"""Separators by signal processing: nothing is learnt, nothing is downloaded."""
