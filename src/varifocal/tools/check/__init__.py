"""The command ``check``: findings about a data set, statistics, a page, and a cleaned copy."""
