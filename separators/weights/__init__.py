"""Files of weights: where they lie, what is published, how they are filed, fetched and read."""
