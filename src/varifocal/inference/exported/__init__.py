"""Exported models: read and run without torch."""

from varifocal.inference.exported.formats import read_info, runtime_of
from varifocal.inference.exported.model import ExportedModel, load_exported
from varifocal.inference.loading import is_exported

__all__ = ["ExportedModel", "is_exported", "load_exported", "read_info", "runtime_of"]
