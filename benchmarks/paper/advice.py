"""What the page tells a user to take: sentences whose words follow from the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

from cells import gain, interval, values_of
from claims import LOSS_ROWS, spoken

from varifocal.analysis.comparison import Difference


def beside(subject: str, other: str, found: Difference | None) -> str:
    """One sentence on the AP of a detector and that of another, by the verdict on their difference."""
    if found is None:
        return f"{subject} has not run beside {other} yet."
    between, word = interval(found), "above" if found.mean > 0 else "below"
    if between is None:
        return f"{subject} is {word} {other} by {abs(found.mean):.1f} AP, with one seed alone."
    if found.verdict == "open":
        return f"{subject} cannot be distinguished from {other} ({found.mean:+.1f} AP, {between})."
    return f"{subject} is {word} {other} by {abs(found.mean):.1f} AP ({between})."


def advice(runs: Sequence[dict[str, Any]]) -> list[str]:
    """The section, made anew of every state of the results."""

    def sentence(subject: str, row: str, other: str, base: str) -> str:
        return beside(subject, other, gain(values_of(runs, base, "AP"), values_of(runs, row, "AP")))

    norm, plain = "star-refine-norm", "star-refine"
    few = [
        sentence("VFNet with the norm", norm, "VFNet as it was published", plain),
        sentence("It", norm, "FCOS+ATSS", "fcos-atss"),
        sentence("It", norm, "raw VFNet, which has no star and no refinement,", "raw-varifocal"),
        sentence("As published VFNet", plain, "FCOS+ATSS", "fcos-atss"),
    ]
    long = [
        sentence("After twelve epochs VFNet as published", f"{plain}-long", "raw VFNet", "raw-varifocal-long"),
        sentence("With the norm it", f"{norm}-long", "raw VFNet", "raw-varifocal-long"),
        sentence("VFNet with the norm", f"{norm}-long", "VFNet as published", f"{plain}-long"),
    ]
    parts = [
        sentence("With the norm VFNet", norm, "the same without refinement", "star-norm"),
        sentence("RepPoints with the norm", "reppoints-varifocal-norm", "RepPoints without it", "reppoints-varifocal"),
    ]
    headline = _headline(gain(values_of(runs, plain, "AP"), values_of(runs, norm, "AP")))
    bullets = [
        f"**{headline}**: a group norm behind each star convolution, as behind every other convolution of the head. "
        f"In 900 steps: {' '.join(few)}",
        f"**With much time**: {' '.join(long)}",
        f"**The parts**: {' '.join(parts)}",
        f"**The loss**: {_losses(runs)}",
        "**With published weights leave it at `none`**: files of the authors have no such norm. A run with the norm "
        "cannot start from weights without it, nor the other way round.",
    ]
    return [
        "## What to take",
        "",
        "The mean difference of AP in points, its 95 % interval in brackets.",
        "",
        *(fill(f"- {text}", 120, subsequent_indent="  ", break_on_hyphens=False) for text in bullets),
        "",
    ]


def _headline(found: Difference | None) -> str:
    """What to do about the norm, by the verdict on what it changes."""
    if found is None or found.verdict == "open" or interval(found) is None:
        return "Whether few steps need `model.star_norm=group` is not settled"
    return f"With few steps set `model.star_norm={'group' if found.verdict == 'better' else 'none'}`"


def _losses(runs: Sequence[dict[str, Any]]) -> str:
    """Which losses differ from the varifocal loss beyond chance, on each detector."""
    told = []
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
            parts.append(f"{_listed(unknown)} {'has' if len(unknown) == 1 else 'have'} not run often enough")
        told.append(f"on {detector} {'; '.join(parts)}.")
    text = " ".join(one[0].upper() + one[1:] for one in told)
    return f"{text} The table below has the other quantities."


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
