"""What the refinement does to the boxes of the trees, beside what the labels allow.

    python benchmarks/trees_refinement.py CHECKPOINT [CHECKPOINT ...]

For each VFNet of the recipe ``trees`` (``trees_vs_fcos.py --keep FOLDER`` keeps them), the mean IoU of the first and of
the refined box with their label, at the points of the held-out scene that would be positives in training, as
``paper/refinement.py`` measures it on the frames. ``trees_label_noise.json`` has the mean IoU of a perfect detector
whose labels are imprecise; from it follows at how much noise a perfect detector would have the first box's IoU. Results
go to ``trees_refinement.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent / "paper"))

from cells import gain, interval
from refinement import at_positives, moved

from harness import machine
from trees_label_noise import RESULTS as NOISE
from varifocal.data.load import load_dataset
from varifocal.data.sample_dataset import sample_dataset_dir
from varifocal.inference.model import load

RESULTS = Path(__file__).with_name("trees_refinement.json")


def noise_at(iou: float) -> float:
    """The noise of the label edges, as a fraction of the side, at which a perfect detector has this mean IoU."""
    levels = json.loads(NOISE.read_text(encoding="utf-8"))["noise"]
    rising = sorted(levels, key=lambda level: level["IoU"])
    return float(np.interp(iou, [level["IoU"] for level in rising], [level["fraction"] for level in rising]))


def main() -> None:
    """Measure the checkpoints and print the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path)
    options = parser.parse_args()
    data = load_dataset(sample_dataset_dir(), "test")
    rows = [{"checkpoint": file.name, **moved(at_positives(load(file), data))} for file in options.checkpoints]
    for row in rows:
        shown = f"first box {row['initial']:.4f}, refined {row['refined']:.4f}, better {row['better']:.1%}"
        print(f"{row['checkpoint']}: {shown}")
    first, refined = ({i: 100 * row[name] for i, row in enumerate(rows)} for name in ("initial", "refined"))
    found = gain(first, refined)
    assert found is not None, "there are checkpoints"
    mean = statistics.mean(first.values())
    noise = noise_at(mean / 100)
    print(f"gain {found.mean:+.2f} points of IoU ({interval(found, 2) or 'one checkpoint'})")
    print(
        f"a perfect detector has that of the first box, {mean:.1f}, if label edges are off by {noise:.1%} of the side"
    )
    RESULTS.write_text(json.dumps({"rows": rows, "noise": noise, "machine": machine()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
