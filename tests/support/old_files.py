"""Files as commit 6568271 wrote them, with the names of its time: python tests/support/old_files.py CHECKOUT OUT.zip

CHECKOUT is a working tree of that commit. Its code makes a small data set, a checkpoint, a run of one epoch, an
exported file and the detections of both. Weights repeat a short pattern and are trained at a rate that does not move
them, so that the archive is small.
"""

import json
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

RECIPE = [
    "detector=fcos",
    "model.backbone={name: test_resnet, pretrained: none, norm_eval: true}",
    "model.width=16",
    "model.levels=2",
    "model.convs=1",
    "model.centre_sampling=true",
    "data.preprocess={scale: 1.0, divisor: 32}",
    "data.augment={crop: 64, near_box: 0.5, jitter: [0.8, 1.25], flip: 0.5, quarter_turns: true, colour: 0.1}",
    "data.difficult=learn",
    "train={device: cpu, batch: 4, epochs: 1, warmup_steps: 1, workers: 0, lr: 1.0e-30, lr_batch: 0, momentum: 0.0}",
    "train.weight_decay=0",
    "train.bad_pictures=0.2",
    "test={iou: 0.55, score_threshold: 0.0, max_detections: 20}",
    "train.weights=start.safetensors",
]


def main() -> None:
    checkout, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    sys.path[:0] = [str(checkout / "src"), str(checkout / "tests" / "training")]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for path in sorted(Path().rglob("*")):
                if path.is_file() and path.name != "start.safetensors":
                    archive.write(path)


def write() -> None:
    import torch
    from tiny_data import make_data
    from varifocal.recipe import make_model, read_recipe

    import varifocal as vf
    from varifocal.cli import main as varifocal

    data = make_data(Path("data"))
    recipe = read_recipe("fcos_r50_1x", [*RECIPE[:-1]])
    model = make_model(recipe, vf.load_dataset(data / "train" / "annotations.json").categories)
    with torch.no_grad():
        for parameter in model.detector.parameters():
            flat = parameter.view(-1)
            flat.copy_((torch.arange(len(flat)) % 7 - 3) * 0.02 + 0.001)
    vf.save(model, "start.safetensors")
    assert varifocal(["train", str(data), "--recipe", "fcos_r50_1x", "--out", "run", *RECIPE]) == 0
    best = ["run/best.safetensors", "--format", "onnx", "--size", "96x96", "--nms", "in", "--out", "in.onnx"]
    assert varifocal(["export", *best]) == 0
    for name in ("run/best.safetensors", "in.onnx"):
        found = vf.load(name).predict("data/val/0.png", score_threshold=0.0)
        values = {"boxes": found.boxes.tolist(), "scores": found.scores.tolist(), "labels": found.labels.tolist()}
        Path(f"{Path(name).stem}.json").write_text(json.dumps(values))
    shutil.rmtree("run/pictures")


if __name__ == "__main__":
    main()
