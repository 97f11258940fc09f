"""One door to all other models: programs, packages and files of networks that others made, as separators."""
