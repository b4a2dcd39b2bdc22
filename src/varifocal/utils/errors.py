"""Errors that a user can fix; the message is one sentence with the file, the location, the cause and the fix.

The command line prints them without a traceback and exits with 2. Any other exception is a defect of the package and
keeps its traceback.
"""


class VarifocalError(Exception):
    """Base class of all errors that the caller can fix.

    ``code`` is a short name of the error that stays when its wording changes, "" if it has none;
    tests/error_sentences.txt lists all of them.
    """

    def __init__(self, message: str = "", *, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class DataError(VarifocalError):
    """A data set, annotation file or image cannot be used as it is."""


class ConfigError(VarifocalError):
    """A recipe, an option or an override is invalid."""


class CheckpointError(VarifocalError):
    """A weights file cannot be read or written, or does not fit the model."""


class TrainingError(VarifocalError):
    """Training cannot continue; the message says at which step and what is kept."""


class ExportError(VarifocalError):
    """An exported network computes something different from the checkpoint; no file is kept."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; the message says what is kept and how to continue."""
