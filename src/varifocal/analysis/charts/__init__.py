"""Charts as SVG texts that need nothing else: readable light and dark, titled and described for those who listen."""
