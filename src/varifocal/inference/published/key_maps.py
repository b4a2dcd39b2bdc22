"""The authors' names of weights and ours: mmdetection's layout of a state dict, table by table."""

from __future__ import annotations

import re

# (pattern of the authors' key, our name); the first that matches the whole key counts
Names = tuple[tuple[str, str], ...]

# before the others: the part of a deformable convolution that steers it, under its name and one of old files
OFFSET: Names = (
    (r"(.*\.conv2)_offset\.(.*)", r"\1.offset.\2"),
    (r"(.*)\.conv_offset\.(.*)", r"\1.offset.\2"),
)
BACKBONE: Names = (
    (r"backbone\.stem\.7\.(.*)", r"backbone.net.bn1.\1"),  # Res2Net's stem of three convolutions
    (r"backbone\.stem\.(.*)", r"backbone.net.conv1.\1"),
    (r"backbone\.(.*)", r"backbone.net.\1"),
)
FPN: Names = (
    (r"neck\.lateral_convs\.(\d)\.conv\.(.*)", r"neck.lateral.\1.\2"),
    (r"neck\.fpn_convs\.([012])\.conv\.(.*)", r"neck.output.\1.\2"),
    (r"neck\.fpn_convs\.3\.conv\.(.*)", r"neck.extra.0.\1"),
    (r"neck\.fpn_convs\.4\.conv\.(.*)", r"neck.extra.1.\1"),
)
PAFPN: Names = (
    (r"neck\.lateral_convs\.(\d)\.conv\.(.*)", r"neck.lateral.\1.\2"),
    (r"neck\.fpn_convs\.([012])\.conv\.(.*)", r"neck.inner.\1.0.\2"),
    (r"neck\.fpn_convs\.([012])\.gn\.(.*)", r"neck.inner.\1.1.\2"),
    (r"neck\.fpn_convs\.3\.conv\.(.*)", r"neck.extra.0.0.\1"),
    (r"neck\.fpn_convs\.3\.gn\.(.*)", r"neck.extra.0.1.\1"),
    (r"neck\.fpn_convs\.4\.conv\.(.*)", r"neck.extra.1.0.\1"),
    (r"neck\.fpn_convs\.4\.gn\.(.*)", r"neck.extra.1.1.\1"),
    (r"neck\.downsample_convs\.(\d)\.conv\.(.*)", r"neck.down.\1.0.\2"),
    (r"neck\.downsample_convs\.(\d)\.gn\.(.*)", r"neck.down.\1.1.\2"),
    (r"neck\.pafpn_convs\.(\d)\.conv\.(.*)", r"neck.output.\1.0.\2"),
    (r"neck\.pafpn_convs\.(\d)\.gn\.(.*)", r"neck.output.\1.1.\2"),
)
NECKS: dict[str, Names] = {"fpn": FPN, "pafpn": PAFPN}
TOWERS: Names = (
    (r"bbox_head\.(cls|reg)_convs\.(\d)\.conv\.(.*)", r"head.\1_tower.\2.0.\3"),
    (r"bbox_head\.(cls|reg)_convs\.(\d)\.gn\.(.*)", r"head.\1_tower.\2.1.\3"),
)
SCALES = (r"bbox_head\.scales\.(\d)\.scale", r"head.scales.\1")
VFNET: Names = (
    *TOWERS,
    (r"bbox_head\.vfnet_(cls|reg)_conv\.conv\.(.*)", r"head.\1_conv.0.\2"),
    (r"bbox_head\.vfnet_(cls|reg)_conv\.gn\.(.*)", r"head.\1_conv.1.\2"),
    (r"bbox_head\.vfnet_reg_refine_dconv\.(.*)", r"head.reg_star.\1"),
    (r"bbox_head\.vfnet_cls_dconv\.(.*)", r"head.cls_star.\1"),
    (r"bbox_head\.(scales|scales_refine)\.(\d)\.scale", r"head.\1.\2"),
    (r"bbox_head\.vfnet_(cls|reg|reg_refine)\.(.*)", r"head.\1.\2"),
)
FCOS: Names = (
    *TOWERS,
    (r"bbox_head\.conv_(cls|reg|centerness)\.(.*)", r"head.\1.\2"),
    SCALES,
)
ATSS: Names = (
    *TOWERS,
    (r"bbox_head\.atss_(cls|reg|centerness)\.(.*)", r"head.\1.\2"),
    SCALES,
)
GFL: Names = (
    *TOWERS,
    (r"bbox_head\.gfl_(cls|reg)\.(.*)", r"head.\1.\2"),
    SCALES,
    (r"bbox_head\.integral\.project", "bins"),
)
RETINANET: Names = (*TOWERS, (r"bbox_head\.retina_(cls|reg)\.(.*)", r"head.\1.\2"))
FOVEABOX: Names = (*TOWERS, (r"bbox_head\.conv_(cls|reg)\.(.*)", r"head.\1.\2"))
REPPOINTS: Names = (
    (r"neck\.lateral_convs\.(\d)\.conv\.(.*)", r"neck.lateral.\1.0.\2"),
    (r"neck\.lateral_convs\.(\d)\.gn\.(.*)", r"neck.lateral.\1.1.\2"),
    (r"neck\.fpn_convs\.([012])\.conv\.(.*)", r"neck.output.\1.0.\2"),
    (r"neck\.fpn_convs\.([012])\.gn\.(.*)", r"neck.output.\1.1.\2"),
    (r"neck\.fpn_convs\.3\.conv\.(.*)", r"neck.extra.0.0.\1"),
    (r"neck\.fpn_convs\.3\.gn\.(.*)", r"neck.extra.0.1.\1"),
    (r"neck\.fpn_convs\.4\.conv\.(.*)", r"neck.extra.1.0.\1"),
    (r"neck\.fpn_convs\.4\.gn\.(.*)", r"neck.extra.1.1.\1"),
    *TOWERS,
    (r"bbox_head\.reppoints_pts_init_conv\.(.*)", r"head.initial_conv.\1"),
    (r"bbox_head\.reppoints_pts_init_out\.(.*)", r"head.initial.\1"),
    (r"bbox_head\.reppoints_(cls|pts_refine)_conv\.(.*)", r"head.\1_star.\2"),
    (r"bbox_head\.reppoints_(cls|pts_refine)_out\.(.*)", r"head.\1.\2"),
    (r"bbox_head\.moment_transfer", r"head.moment"),
)
# a head's own names come first, because a neck may differ with it
HEADS: dict[str, Names] = {
    "vfnet": VFNET,
    "fcos": FCOS,
    "atss": ATSS,
    "gfl": GFL,
    "retinanet": RETINANET,
    "foveabox": FOVEABOX,
    "reppoints": REPPOINTS,
}


def map_key(key: str, detector: str = "vfnet", neck: str = "fpn") -> str | None:
    """Return this package's name of a weight of that detector with that neck, or None if there is none."""
    key = _first(OFFSET, key) or key
    return _first((*HEADS[detector], *BACKBONE, *NECKS[neck]), key)


def _first(names: Names, key: str) -> str | None:
    for pattern, name in names:
        match = re.fullmatch(pattern, key)
        if match:
            return match.expand(name)
    return None
