"""The oracles once more, slowly: one point, one class, one object at a time, in plain Python numbers.

Nothing of the package but the networks' raw outputs, the assigner of the detector itself and the COCO evaluator is
used: points, boxes, ATSS, overwriting and suppression are written out again, without a thought for time.
"""

import math
import statistics

STRIDES = (8, 16, 32)


def iou(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / max(both, 1e-6)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def cells(shapes, offset):
    """(x, y, stride) of each cell: fine levels first, rows before columns."""
    for (rows, columns), stride in zip(shapes, STRIDES, strict=True):
        for row in range(rows):
            for column in range(columns):
                yield (column + offset) * stride, (row + offset) * stride, stride


def clipped(box, height, width):
    return [min(max(side, 0.0), width if i % 2 == 0 else height) for i, side in enumerate(box)]


def around(x, y, left, top, right, bottom):
    return [x - left, y - top, x + right, y + bottom]


def from_deltas(anchor, deltas):
    """R-CNN's change of an anchor; a side grows at most by 1000 / 16."""
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x, y = (anchor[0] + anchor[2]) / 2 + deltas[0] * width, (anchor[1] + anchor[3]) / 2 + deltas[1] * height
    most = math.log(1000 / 16)
    width, height = (side * math.exp(min(max(d, -most), most)) for side, d in ((width, deltas[2]), (height, deltas[3])))
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def square(x, y, stride, scale):
    return [x - scale * stride / 2, y - scale * stride / 2, x + scale * stride / 2, y + scale * stride / 2]


def retina_anchors(cell, scales=3, ratios=(0.5, 1.0, 2.0)):
    x, y, stride = cell
    for ratio in ratios:
        for octave in range(scales):
            side = 4 * 2 ** (octave / scales) * stride
            width, height = side / math.sqrt(ratio), side * math.sqrt(ratio)
            yield [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def points_and_boxes(name, tensors, shapes, moment=(0.0, 0.0)):
    """Each point's (x, y), its anchor as ATSS sees it, and the box it predicts, unclipped, of the first image.

    ``tensors`` are nested lists [N, ...].
    """
    offset = {"fcos": 0.5, "foveabox": 0.5}.get(name, 0.0)
    found = []
    for i, (x, y, stride) in enumerate(cells(shapes, offset)):
        eight = square(x, y, stride, 8)
        if name == "vfnet":
            box = around(x, y, *tensors["refined" if "refined" in tensors else "initial"][i])
        elif name == "fcos":
            box = around(x, y, *tensors["distances"][i])
        elif name == "atss":
            box = from_deltas(eight, [d * s for d, s in zip(tensors["deltas"][i], (0.1, 0.1, 0.2, 0.2), strict=True)])
        elif name == "foveabox":
            box = around(x, y, *(math.exp(log) * 2 * stride for log in tensors["logs"][i]))
        elif name == "gfl":
            box = around(x, y, *(side * stride for side in expectations(tensors["sides"][i])))
        elif name == "reppoints":
            box = moment_box(x, y, stride, tensors["refined_points"][i], moment)
        else:
            for k, anchor in enumerate(retina_anchors((x, y, stride))):
                found.append(((x, y), anchor, from_deltas(anchor, tensors["deltas"][9 * i + k])))
            continue
        found.append(((x, y), eight, box))
    return found


def expectations(logits):
    bins = len(logits) // 4
    for side in range(4):
        weights = [math.exp(value) for value in logits[side * bins : (side + 1) * bins]]
        yield sum(i * weight for i, weight in enumerate(weights)) / sum(weights)


def moment_box(x, y, stride, values, moment):
    ys, xs = values[0::2], values[1::2]
    half_x, half_y = statistics.stdev(xs) * math.exp(moment[0]), statistics.stdev(ys) * math.exp(moment[1])
    middle_x, middle_y = statistics.mean(xs), statistics.mean(ys)
    return [
        x + (middle_x - half_x) * stride,
        y + (middle_y - half_y) * stride,
        x + (middle_x + half_x) * stride,
        y + (middle_y + half_y) * stride,
    ]


def nearest(points, shapes, per_cell, box, topk, inside):
    """The candidates of an object: all points of the nearest cells of each level."""
    middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    start = 0
    for level, (rows, columns) in enumerate(shapes):
        near = []
        for row in range(rows):
            for column in range(columns):
                first = start + (row * columns + column) * per_cell
                x, y = points[first][0]
                if inside(level, row, column):
                    near.append(((x - middle[0]) ** 2 + (y - middle[1]) ** 2, first))
        for _, first in sorted(near)[:topk]:
            yield from range(first, first + per_cell)
        start += rows * columns * per_cell


def atss(points, shapes, per_cell, objects, topk, inside):
    """The object of each point or -1; ``inside`` tells which (row, column) of a level lie in the image."""
    asked = {}
    for number, box in enumerate(objects):
        candidates = list(nearest(points, shapes, per_cell, box, topk, inside))
        overlaps = [iou(points[i][1], box) for i in candidates]
        if len(overlaps) < 2:
            continue
        threshold = statistics.mean(overlaps) + statistics.stdev(overlaps)
        for i, overlap in zip(candidates, overlaps, strict=True):
            x, y = points[i][0]
            lies_in = min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01
            if overlap >= threshold and lies_in and overlap > asked.get(i, (0.0, -1))[0]:
                asked[i] = overlap, number
    return [asked.get(i, (0, -1))[1] for i in range(len(points))]


def centerness(x, y, box):
    left, top, right, bottom = x - box[0], y - box[1], box[2] - x, box[3] - y
    return math.sqrt(min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom))


def suppressed(candidates, limit, most):
    """Greedy, class by class; ``candidates`` are (score, label, box), ties in their order."""
    kept = []
    for score, label, box in sorted(candidates, key=lambda one: -one[0]):
        if not any(other == label and iou(box, better) > limit for _, other, better in kept):
            kept.append((score, label, box))
    return kept[:most]
