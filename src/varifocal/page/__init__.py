"""What the package's pages are made of: escaped text, tables, pictures, charts, and the frame with its style."""
