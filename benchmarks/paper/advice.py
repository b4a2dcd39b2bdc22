"""The recommendations of the page: sentences that follow from the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

from cells import gain, interval, values_of
from claims import LOSS_ROWS, spoken

from varifocal.analysis.comparison import Difference


def beside(subject: str, other: str, found: Difference | None) -> str:
    """Return a sentence that compares the APs of two detectors, worded by the verdict on their difference."""
    if found is None:
        return f"{subject} has no runs to compare with {other} yet."
    between, word = interval(found), "above" if found.mean > 0 else "below"
    if between is None:
        return f"{subject} is {abs(found.mean):.1f} AP {word} {other}, with a single seed."
    if found.verdict == "open":
        return f"{subject} cannot be distinguished from {other} ({found.mean:+.1f} AP, {between})."
    return f"{subject} is {abs(found.mean):.1f} AP {word} {other} ({between})."


def advice(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Return the section on recommendations for the current results."""

    def sentence(subject: str, row: str, other: str, base: str) -> str:
        return beside(subject, other, gain(values_of(runs, base, "AP"), values_of(runs, row, "AP")))

    norm, plain = "star-refine-norm", "star-refine"
    few = [
        sentence("VFNet with the norm", norm, "VFNet as published", plain),
        sentence("It", norm, "FCOS+ATSS", "fcos-atss"),
        sentence("It", norm, "raw VFNet", "raw-varifocal"),
        sentence("VFNet as published", plain, "FCOS+ATSS", "fcos-atss"),
    ]
    long = [
        sentence("After twelve epochs, VFNet as published", f"{plain}-long", "raw VFNet", "raw-varifocal-long"),
        sentence("VFNet with the norm", f"{norm}-long", "raw VFNet", "raw-varifocal-long"),
        sentence("It", f"{norm}-long", "VFNet as published", f"{plain}-long"),
    ]
    parts = [
        sentence("VFNet with the norm", norm, "the same detector without refinement", "star-norm"),
        sentence("RepPoints with the norm", "reppoints-varifocal-norm", "RepPoints without it", "reppoints-varifocal"),
    ]
    headline = _headline(gain(values_of(runs, plain, "AP"), values_of(runs, norm, "AP")))
    bullets = [
        f"**{headline}** The setting adds a group norm after each star convolution, like the one after every other "
        f"convolution of the head. After 900 steps: {' '.join(few)}",
        f"**Long training.** {' '.join(long)}",
        f"**Components.** {' '.join(parts)}",
        f"**Loss.** {_losses(runs)}",
        "**With published weights, keep `model.star_norm=none`.** The authors' files have no such norm. A run with the "
        "norm cannot start from weights without it, or the other way around.",
    ]
    return [
        "## Recommendations",
        "",
        "Numbers are mean differences of AP in points, with their 95 % interval in parentheses. Raw VFNet has neither",
        "star nor refinement.",
        "",
        *(fill(f"- {text}", 120, subsequent_indent="  ", break_on_hyphens=False) for text in bullets),
        "",
    ]


def _headline(found: Difference | None) -> str:
    """Return the recommendation on the norm, by the verdict on its effect."""
    if found is None or found.verdict == "open" or interval(found) is None:
        return "Whether short training needs `model.star_norm=group` is open."
    return f"For short training, set `model.star_norm={'group' if found.verdict == 'better' else 'none'}`."


def _losses(runs: Sequence[dict[str, Any]]) -> str:
    """Return which losses differ significantly from the varifocal loss, for each detector."""
    sentences = []
    for detector, rows in LOSS_ROWS.items():
        found = {
            loss: gain(values_of(runs, rows["varifocal"], "AP"), values_of(runs, row, "AP"))
            for loss, row in rows.items()
            if loss != "varifocal"
        }
        words = {"better": "above", "worse": "below"}
        apart = [
            f"{spoken(loss)} is {words[one.verdict]} varifocal ({one.mean:+.1f} AP, {interval(one)})"
            for loss, one in found.items()
            if one is not None and one.verdict != "open"
        ]
        known = [loss for loss, one in found.items() if one is not None and one.low is not None]
        rest = [spoken(loss) for loss in known if found[loss].verdict == "open"]  # type: ignore[union-attr]
        unknown = [spoken(loss) for loss in found if loss not in known]
        parts = list(apart)
        if rest:
            parts.append(f"{_listed(rest)} cannot be distinguished from varifocal")
        if unknown:
            parts.append(f"{_listed(unknown)} {'has' if len(unknown) == 1 else 'have'} too few runs")
        sentences.append(f"On {detector}, {'; '.join(parts)}.")
    return f"{' '.join(sentences)} The table below has the other metrics."


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
