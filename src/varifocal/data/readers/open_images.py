"""The class names of Open Images, whose tables of boxes have codes such as ``/m/01yrx`` for them.

https://storage.googleapis.com/openimages/web/download_v7.html; the names are in ``class-descriptions-boxable.csv``.
"""

from __future__ import annotations

import csv
import io

from varifocal.data.archive import AnyPath
from varifocal.data.paths import TextDecoder, list_dir
from varifocal.utils.errors import DataError

_FOLDERS = ("", "metadata")


def class_names(file: AnyPath) -> dict[str, str]:
    """Return code -> name of each class, from a table beside a file or in the folder above; empty without a table.

    Raises:
        DataError: the table cannot be read.
    """
    for base in (file.parent, file.parent.parent):
        for inner in _FOLDERS:
            folder = base / inner if inner else base
            for name in list_dir(folder)[1]:
                if name.lower().endswith(".csv") and name.lower().startswith(("class-descriptions", "classes")):
                    return _pairs(folder / name)
    return {}


def _pairs(file: AnyPath) -> dict[str, str]:
    try:
        rows = list(csv.reader(io.StringIO(TextDecoder().read(file), newline=""), skipinitialspace=True))
    except csv.Error as error:
        raise DataError(f"{file}: this is not CSV ({error}); download it again", code="class-names-syntax") from None
    return {
        row[0].strip(): row[1].strip() for row in rows if len(row) == 2 and row[0].startswith("/") and row[1].strip()
    }
