"""Give a detector the truth, one quantity at a time, and see what AP it buys (VarifocalNet, section 3.1, table 1)."""
