"""Which points of each image the assignment gives an object: as numbers and as images."""
