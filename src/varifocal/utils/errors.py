"""Errors that a user can fix: one sentence that names the file, the location and the fix.

The command line prints them without a traceback and exits with 2; everything else is a defect of the package
and keeps its traceback.
"""


class VarifocalError(Exception):
    """Base of every error that the caller can fix.

    ``code`` is a short name of the sentence that stays when its wording changes ("" for an error without one);
    tests/error_sentences.txt lists all of them.
    """

    def __init__(self, message: str = "", *, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class DataError(VarifocalError):
    """A data set, annotation file or image cannot be used as it is."""


class ConfigError(VarifocalError):
    """A recipe or an override does not say something possible."""


class CheckpointError(VarifocalError):
    """A weights file cannot be read, or does not fit the model."""


class TrainingError(VarifocalError):
    """Training cannot go on; the message says at which step and what is kept."""


class ExportError(VarifocalError):
    """An exported network computes something else than the checkpoint; nothing is kept."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, where the message says what is kept and how to go on."""
