"""The detectors, by the name that recipes and the command line use."""

from varifocal.models.vfnet import VFNet, VFNetConfig

DETECTORS = {"vfnet": (VFNet, VFNetConfig)}
