"""One file a format, from a tree of files to a :class:`varifocal.data.annotations.RawDataset`; ``formats`` is the
table of them.
"""
