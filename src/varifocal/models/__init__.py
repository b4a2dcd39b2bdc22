"""The detectors, by the name that recipes and the command line use."""

from typing import Any

from varifocal.models.foveabox import FoveaBox, FoveaBoxConfig
from varifocal.models.reppoints import RepPoints, RepPointsConfig
from varifocal.models.retinanet import RetinaNet, RetinaNetConfig
from varifocal.models.vfnet import VFNet, VFNetConfig

# a detector and its configuration
DETECTORS: dict[str, tuple[Any, Any]] = {
    "foveabox": (FoveaBox, FoveaBoxConfig),
    "reppoints": (RepPoints, RepPointsConfig),
    "retinanet": (RetinaNet, RetinaNetConfig),
    "vfnet": (VFNet, VFNetConfig),
}
