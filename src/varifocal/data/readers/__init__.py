"""One file a format, from a tree of files to a :class:`varifocal.data.raw.RawSet`; ``formats`` is the table of them."""
