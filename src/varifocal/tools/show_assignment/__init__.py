"""The command ``show-assignment``: the positive points of each object, as numbers and as images."""
