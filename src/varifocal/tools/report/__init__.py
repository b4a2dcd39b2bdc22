"""Runs and sweeps on one page: curves, numbers side by side, diagnosis, examples, and where VFNet's star looked."""
