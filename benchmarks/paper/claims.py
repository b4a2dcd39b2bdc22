"""The comparisons of the page: rows by their names in ``run.py``, with the paper's numbers."""

from __future__ import annotations

from typing import NamedTuple

LOSSES = ("focal", "quality-focal", "varifocal", "mal", "ia-bce")


class Claim(NamedTuple):
    """The claim that the row ``second`` has a higher AP than the row ``first``.

    ``paper`` is the difference in points that the paper reports on COCO. ``normed`` are the same two rows with a norm
    after the star, if there is a star.
    """

    what: str
    first: str
    second: str
    paper: float | None = None
    normed: tuple[str, str] | None = None


# claims about detectors with a star, which can have a norm
STAR_CLAIMS = (
    Claim("Table 3: the star", "raw-varifocal", "star", 0.6, ("raw-varifocal", "star-norm")),
    Claim("Table 3: the refinement", "star", "star-refine", 0.9, ("star-norm", "star-refine-norm")),
    Claim("Table 3: VFNet vs. raw VFNet", "raw-varifocal", "star-refine", 1.5, ("raw-varifocal", "star-refine-norm")),
    Claim("Table 3: VFNet vs. FCOS+ATSS", "fcos-atss", "star-refine", 2.4, ("fcos-atss", "star-refine-norm")),
    Claim(
        "Twelve epochs: the star",
        "raw-varifocal-long",
        "star-long",
        0.6,
        ("raw-varifocal-long", "star-norm-long"),
    ),
    Claim(
        "Twelve epochs: the refinement",
        "star-long",
        "star-refine-long",
        0.9,
        ("star-norm-long", "star-refine-norm-long"),
    ),
    Claim(
        "Twelve epochs: VFNet vs. raw VFNet",
        "raw-varifocal-long",
        "star-refine-long",
        1.5,
        ("raw-varifocal-long", "star-refine-norm-long"),
    ),
    Claim(
        "Twelve epochs: VFNet vs. FCOS+ATSS",
        "fcos-atss-long",
        "star-refine-long",
        2.4,
        ("fcos-atss-long", "star-refine-norm-long"),
    ),
    Claim(
        "Losses: varifocal instead of focal, VFNet",
        "vfnet-focal",
        "star-refine",
        None,
        ("vfnet-norm-focal", "star-refine-norm"),
    ),
    Claim(
        "Losses: varifocal instead of quality focal, VFNet",
        "vfnet-quality-focal",
        "star-refine",
        None,
        ("vfnet-norm-quality-focal", "star-refine-norm"),
    ),
)
# effects of the norm
NORM_CLAIMS = (
    Claim("VFNet", "star-refine", "star-refine-norm"),
    Claim("VFNet without refinement", "star", "star-norm"),
    Claim("VFNet, twelve epochs", "star-refine-long", "star-refine-norm-long"),
    Claim("VFNet without refinement, twelve epochs", "star-long", "star-norm-long"),
    Claim("VFNet, focal", "vfnet-focal", "vfnet-norm-focal"),
    Claim("VFNet, quality focal", "vfnet-quality-focal", "vfnet-norm-quality-focal"),
    Claim("RepPoints, varifocal", "reppoints-varifocal", "reppoints-varifocal-norm"),
)
# claims about detectors without a star, or about VFNet as published
OTHER_CLAIMS = (
    Claim("Table 3: varifocal instead of focal, raw VFNet", "raw-focal", "raw-varifocal", 1.1),
    Claim("Table 5: varifocal instead of focal, ATSS", "atss-focal", "atss-varifocal", 0.9),
    Claim("Table 5: varifocal instead of quality focal, ATSS", "atss-quality-focal", "atss-varifocal", 0.4),
    Claim("Table 2: positives weighted by their IoU", "vfnet-unweighted", "star-refine", 0.4),
)
# Table 3 from top to bottom: title, row as published, row with the norm, AP on COCO
PARTS = (
    ("FCOS+ATSS, focal, centerness", "fcos-atss", None, 39.2),
    ("raw VFNet, focal", "raw-focal", None, 39.0),
    ("raw VFNet, varifocal", "raw-varifocal", None, 40.1),
    ("+ star", "star", "star-norm", 40.7),
    ("+ refinement: VFNet", "star-refine", "star-refine-norm", 41.6),
)
# the table of losses: detector -> loss -> row
LOSS_ROWS = {
    "VFNet with the norm": {
        loss: "star-refine-norm" if loss == "varifocal" else f"vfnet-norm-{loss}" for loss in LOSSES
    },
    "ATSS": {loss: f"atss-{loss}" for loss in LOSSES},
}
_SPOKEN = {"quality-focal": "quality focal", "mal": "MAL", "ia-bce": "IA-BCE"}
NAMES = {
    "star-refine": "VFNet: star, refinement, varifocal",
    "star-refine-norm": "VFNet with the norm, varifocal",
    "star": "VFNet without refinement",
    "star-norm": "VFNet with the norm, without refinement",
    "raw-varifocal": "raw VFNet, varifocal",
    "raw-focal": "raw VFNet, focal",
    "fcos-atss": "FCOS+ATSS, focal, centerness",
    **{f"vfnet-{loss}": f"VFNet, {_SPOKEN.get(loss, loss)}" for loss in ("focal", "quality-focal")},
    "vfnet-unweighted": "VFNet, varifocal, positives not weighted",
    **{
        row: f"{detector}, {_SPOKEN.get(loss, loss)}"
        for detector, rows in LOSS_ROWS.items()
        for loss, row in rows.items()
        if row != "star-refine-norm"
    },
    "reppoints-varifocal": "RepPoints, varifocal",
    "reppoints-varifocal-norm": "RepPoints with the norm, varifocal",
    "fcos-atss-long": "FCOS+ATSS, twelve epochs",
    "raw-varifocal-long": "raw VFNet, varifocal, twelve epochs",
    "star-long": "VFNet without refinement, twelve epochs",
    "star-norm-long": "VFNet with the norm, without refinement, twelve epochs",
    "star-refine-long": "VFNet, varifocal, twelve epochs",
    "star-refine-norm-long": "VFNet with the norm, varifocal, twelve epochs",
}


def spoken(loss: str) -> str:
    """Return the name of a loss for a sentence or a table."""
    return _SPOKEN.get(loss, loss)
