"""Audio as the rest of the house sees it: signals, the containers they come from, and files that are written whole."""
