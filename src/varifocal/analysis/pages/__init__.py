"""What the package's pages are made of: escaped text, tables, images, charts, and the frame with its style."""
