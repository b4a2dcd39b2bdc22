"""A limit of time for a run, written as 8m, 2h or 1h30m."""

from __future__ import annotations

import re

from varifocal.utils.errors import ConfigError

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([dhms])")


def parse_budget(text: str) -> float:
    """Return the seconds of a duration such as ``8m``, ``2h``, ``1h30m`` or ``90s``.

    Raises:
        ConfigError: it is not of that form, or 0.
    """
    words = text.strip().lower()
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(words))
    if _PART.sub("", words).strip() or not seconds:
        raise ConfigError(f"--budget {text}: not a duration; write 8m, 2h or 1h30m.", code="budget-form")
    return seconds


def show_duration(seconds: float) -> str:
    """Return a duration as people write it: 45 s, 8 min, 2 h 05 min."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
