"""Models for other runtimes: a checkpoint becomes a file, and the file is compared with torch before it is kept."""

from varifocal.export.config import ExportSettings
from varifocal.export.onnx import export_onnx
from varifocal.export.openvino import export_openvino
from varifocal.export.torch_export import export_torch

# name -> (what writes it, the suffixes of its files, first that of the file with the graph); each format is a function
# in a file of its own
FORMATS = {
    "onnx": (export_onnx, (".onnx",)),
    "openvino": (export_openvino, (".xml", ".bin")),
    "torch-export": (export_torch, (".pt2",)),
}

__all__ = ["FORMATS", "ExportSettings", "export_onnx", "export_openvino", "export_torch"]
