"""Exported models: read and run without torch."""

from varifocal.runtime.exported import ExportedModel, load_exported
from varifocal.runtime.formats import is_exported, read_info, runtime_of

__all__ = ["ExportedModel", "is_exported", "load_exported", "read_info", "runtime_of"]
