"""Exported models, read and run without torch."""
