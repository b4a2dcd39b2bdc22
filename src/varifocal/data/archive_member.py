"""Files of zip and tar archives as values that another process can open, with random access to their content."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_BLOCK = 1 << 16


class Entry(NamedTuple):
    """Location of a file in its archive: ``offset`` in bytes of the header in a zip, or of the content in a tar;
    ``packed`` bytes become ``size`` bytes with the checksum ``crc``, -1 if the archive has none."""

    offset: int
    packed: int
    size: int
    method: int
    crc: int = -1


@dataclass(frozen=True)
class Member:
    """One file of an archive, used like the ``Path`` of a file in a folder."""

    archive: Path
    path: str
    entry: Entry

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.path).name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.path).stem

    def open(self, mode: Literal["rb"] = "rb") -> io.BufferedReader:
        """Return the content as a file with random access.

        Raises:
            OSError: the archive no longer exists, was changed, or is damaged there.
        """
        stream = open(self.archive, "rb")  # noqa: SIM115  # closed with the returned file
        try:
            start = self.entry.offset
            if self.archive.suffix.lower() == ".zip":
                start = _content_of(stream, start)
            stream.seek(start)
            return io.BufferedReader(_Content(stream, start, self.entry), _BLOCK)
        except BaseException:
            stream.close()
            raise

    def __str__(self) -> str:
        return f"{self.archive}/{self.path}"


def _content_of(stream: io.BufferedReader, header: int) -> int:
    """Return the offset of the content after a file's own header, whose length the directory does not give."""
    stream.seek(header)
    found = stream.read(_LOCAL_HEADER.size)
    if len(found) < _LOCAL_HEADER.size or not found.startswith(b"PK\x03\x04"):
        raise OSError(0, "the archive is damaged or was changed")
    _, name, extra = _LOCAL_HEADER.unpack(found)
    return header + _LOCAL_HEADER.size + int(name) + int(extra)


class _Content(io.RawIOBase):
    """A byte range of a file, unpacked as far as it is read, and never beyond the announced size."""

    def __init__(self, stream: io.BufferedReader, start: int, entry: Entry) -> None:
        self._stream, self._start, self._entry = stream, start, entry
        self._position = self._read = 0
        self._checked, self._crc = 0, 0  # bytes from the beginning that the checksum has seen
        self._inflate = zlib.decompressobj(-15) if entry.method == DEFLATED else None
        self._unpacked = bytearray()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._entry.size}[whence]
        if base + offset < 0:
            raise OSError(22, "a position before the beginning")
        self._position = base + offset
        return self._position

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        count = min(len(buffer), self._entry.size - self._position)
        if count <= 0:
            return 0
        if self._inflate is None:
            self._stream.seek(self._start + self._position)
            found = self._stream.read(count)
        else:
            self._unpack(self._position + count)
            found = bytes(self._unpacked[self._position : self._position + count])
        if not found:
            raise OSError(0, "the archive is cut short")
        buffer[: len(found)] = found
        self._check(found)
        self._position += len(found)
        return len(found)

    def _check(self, found: bytes) -> None:
        """Compare the checksum once the content has been read from beginning to end."""
        if self._position != self._checked:
            return
        self._crc = zlib.crc32(found, self._crc)
        self._checked += len(found)
        if self._checked == self._entry.size and self._entry.crc not in (-1, self._crc):
            raise OSError(0, "the archive is damaged: its checksum differs")

    def _unpack(self, until: int) -> None:
        assert self._inflate is not None
        while len(self._unpacked) < until:
            block = self._inflate.unconsumed_tail
            if not block:
                self._stream.seek(self._start + self._read)
                block = self._stream.read(min(_BLOCK, self._entry.packed - self._read))
                self._read += len(block)
            try:
                more = self._inflate.decompress(block, self._entry.size - len(self._unpacked))
            except zlib.error as error:
                raise OSError(0, f"the archive is damaged: {error}") from None
            if not more and (self._inflate.eof or not block):
                raise OSError(0, "the archive is cut short")
            self._unpacked += more

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()
