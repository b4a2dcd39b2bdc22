"""Charts as self-contained SVG: for light and dark pages, with a title and a description for screen readers."""
