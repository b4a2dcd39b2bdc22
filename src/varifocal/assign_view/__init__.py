"""Which points of each picture the assignment gives an object: as numbers and as pictures."""
