"""Models for other runtimes: a checkpoint becomes a file, and the file is compared with torch before it is kept."""

from varifocal.export.onnx import export_onnx
from varifocal.export.settings import ExportSettings

# name -> (what writes it, the suffix of its file); each format is a function in a file of its own
FORMATS = {"onnx": (export_onnx, ".onnx")}

__all__ = ["FORMATS", "ExportSettings", "export_onnx"]
