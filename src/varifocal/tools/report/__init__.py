"""The command ``report``: runs and sweeps on one page, with curves, metrics, diagnosis, examples and VFNet's stars."""
