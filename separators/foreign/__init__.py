"""Files that others made: the one way in, with bounds on what they may hold and no way to run anything of theirs."""
