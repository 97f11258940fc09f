"""The synthetic band."""
