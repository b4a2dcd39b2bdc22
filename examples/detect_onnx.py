"""Detect with NumPy, Pillow and ONNX Runtime alone: python detect_onnx.py best.onnx photo.jpg

The file comes from: varifocal export best.safetensors --format onnx --nms graph
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def detect(model: str, photo: str) -> list[dict]:
    """What is in an image, best first; a box is [x1, y1, x2, y2] in pixels of the upright image."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    info = json.loads(session.get_modelmeta().custom_metadata_map["varifocal"])
    rule, graph = info["preprocess"], info["graph"]
    if graph["nms"] != "graph":
        sys.exit(f"{model}: leaves suppression to its caller; export it with --nms graph")
    image = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")

    # 1. resize by the model's own rule, and until it fits where the input has a fixed size
    short, long = sorted(image.size)
    factor = rule["scale"] or min(rule["short_side"] / short, rule["max_long_side"] / long)
    factor = min(factor, rule["max_size"] / long)
    width, height = (max(int(side * factor + 0.5), 1) for side in image.size)
    if graph["size"]:
        fit = min(1, graph["size"][0] / height, graph["size"][1] / width)
        width, height = (max(int(side * fit + 0.5), 1) for side in (width, height))
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)

    # 2. put it at the top left of the input; raw values 0..255, the graph normalizes
    multiple = graph["multiple"]
    rows, columns = graph["size"] or [-(-side // multiple) * multiple for side in (height, width)]
    batch = np.empty((1, 3, rows, columns), np.float32)
    batch[:] = np.array(info["pad"], np.float32)[:, None, None]
    batch[0, :, :height, :width] = pixels.transpose(2, 0, 1)

    # 3. run, and scale the boxes back; label -1 fills up what was not found
    boxes, scores, labels = (output[0] for output in session.run(["boxes", "scores", "labels"], {"images": batch}))
    boxes = np.clip(boxes, 0, [width - graph["border"], height - graph["border"]] * 2)
    boxes *= np.array([image.width / width, image.height / height] * 2)
    names = [name for _, name in info["categories"]]
    return [
        {"box": box.tolist(), "score": float(score), "name": names[label]}
        for box, score, label in zip(boxes, scores, labels, strict=True)
        if label >= 0 and (box[2:] > box[:2]).all()  # what lay beside the image has no area left
    ]


if __name__ == "__main__":
    for found in detect(*sys.argv[1:3]):
        print(f"{found['score']:.3f} {found['name']} " + " ".join(f"{side:.1f}" for side in found["box"]))
