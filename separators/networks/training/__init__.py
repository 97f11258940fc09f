"""What separators are trained by: networks and their sizes, chunks of songs, and losses."""
