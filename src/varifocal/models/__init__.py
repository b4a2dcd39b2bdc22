"""The detectors, by the name that recipes and the command line use."""

from typing import Any

from varifocal.models.atss import ATSS, ATSSConfig
from varifocal.models.fcos import FCOS, FCOSConfig
from varifocal.models.foveabox import FoveaBox, FoveaBoxConfig
from varifocal.models.gfl import GFL, GFLConfig
from varifocal.models.reppoints import RepPoints, RepPointsConfig
from varifocal.models.retinanet import RetinaNet, RetinaNetConfig
from varifocal.models.vfnet import VFNet, VFNetConfig

# name -> (the detector, its configuration)
DETECTORS: dict[str, tuple[Any, Any]] = {
    "vfnet": (VFNet, VFNetConfig),
    "fcos": (FCOS, FCOSConfig),
    "atss": (ATSS, ATSSConfig),
    "gfl": (GFL, GFLConfig),
    "retinanet": (RetinaNet, RetinaNetConfig),
    "foveabox": (FoveaBox, FoveaBoxConfig),
    "reppoints": (RepPoints, RepPointsConfig),
}
