"""The command ``diagnose``: why a detector's AP is what it is."""
