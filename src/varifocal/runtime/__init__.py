"""Exported models: read and run without torch."""

from varifocal.runtime.exported import ExportedModel, is_exported, load_exported

__all__ = ["ExportedModel", "is_exported", "load_exported"]
