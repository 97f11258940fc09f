"""BSS Eval v4."""
