"""Reading of JSON: small files at once, large ones record by record, so that gigabytes need megabytes of memory."""

from __future__ import annotations

import codecs
import gc
import io
import json
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from varifocal.data.archive import AnyPath
from varifocal.utils.errors import DataError
from varifocal.utils.text import short

_BLOCK = 1 << 22  # bytes read at a time
_RECORDS = 1 << 15  # approximate number of records handed on at a time
_LINE = 1 << 24  # the longest line of JSON lines in bytes
_TRIES = 3  # a cut may lie inside an element
_NEAR = 1 << 16  # a failure so near the end of the window may only mean that more has to be read

_SPACE = re.compile(r"[ \t\n\r]*")
_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # raw_decode without its wrapper, which takes 4 s of 7 million records

RecordHandler = Callable[[str, int, list[Any]], None]


class Count(int):
    """The number of elements of a list that was handed on while it was read; a number in the file is an ``int``."""


def read_object(file: AnyPath, lists: Collection[str], handle: RecordHandler) -> dict[str, Any]:
    """Return the object in ``file``, with a :class:`Count` for each key in ``lists`` whose value is a list.

    The elements of these lists go to ``handle(key, first, records)``, some at a time, ``first`` being the index of the
    first one. For a file that holds no object the result is ``{"": value}``.

    Raises:
        DataError: not JSON, not UTF-8 (or UTF-16 with its mark), unreadable, or one of ``lists`` is there twice.
    """
    with _named_errors(file), file.open("rb") as stream, _without_collection():
        return _Reader(stream, file).read(lists, handle)


def read_list(file: AnyPath, handle: Callable[[int, list[Any]], None]) -> int | None:
    """Return the number of elements of the list in ``file``; None for a file that holds no list.

    They go to ``handle(first, elements)``, some at a time, ``first`` being the index of the first one.

    Raises:
        DataError: as :func:`read_object`.
    """
    with _named_errors(file), file.open("rb") as stream, _without_collection():
        reader = _Reader(stream, file)
        reader.fill()
        if reader.peek() != "[":
            return None
        count = reader.records("", lambda _, first, elements: handle(first, elements))
        reader.expect_end()
        return count


def read_lines(file: AnyPath, is_record: Callable[[Any], bool], handle: Callable[[int, list[Any]], None]) -> int | None:
    """Return the number of records in a file of JSON lines; None for a file whose first line is no record by itself.

    They go to ``handle(first, records)``, some at a time, ``first`` being the index of the first one. Empty lines do
    not count.

    Raises:
        DataError: a later line is not valid JSON; it is named.
    """
    with _named_errors(file), file.open("rb") as stream, _without_collection():
        lines = enumerate(iter(lambda: stream.readline(_LINE), b""), start=1)
        texts = ((number, line) for number, line in lines if line.strip(b"\xef\xbb\xbf \t\r\n"))
        first = next(texts, (0, b""))[1]
        try:
            records = [json.loads(first)]
        except (ValueError, RecursionError):
            return None
        if not is_record(records[0]):
            return None
        count = 0
        for number, line in texts:
            records.append(_line_value(number, line))
            if len(records) == _RECORDS:
                handle(count, records)
                count, records = count + len(records), []
        handle(count, records)
        return count + len(records)


def _line_value(number: int, line: bytes) -> Any:
    try:
        return json.loads(line.rstrip())
    except json.JSONDecodeError as error:
        raise json.JSONDecodeError(error.msg, "\n" * (number - 1) + error.doc, number - 1 + error.pos) from None


def parse_json(content: str | bytes, file: AnyPath) -> Any:
    """Return the value that a small JSON file holds.

    Raises:
        DataError: it is not valid JSON; the line is named.
    """
    with _named_errors(file):
        return json.loads(content if isinstance(content, str) else content.decode(json.detect_encoding(content)))


@contextmanager
def _named_errors(file: AnyPath) -> Iterator[None]:
    """Raise what goes wrong while reading as an error about the file."""
    try:
        yield
    except json.JSONDecodeError as error:
        location = f"line {error.lineno} column {error.colno}"
        text = f"this is not valid JSON at {location} ({error.msg}); export it again"
        raise DataError(f"{file}: {text}", code="json-syntax") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: the JSON cannot be read ({error}); export it again", code="json-value") from None
    except OSError as error:
        text = f"the file cannot be read ({error.strerror}); check its permissions"
        raise DataError(f"{file}: {text}", code="json-unreadable") from None


@contextmanager
def _without_collection() -> Iterator[None]:
    """Pause the garbage collector: JSON has no cycles, and to search millions of objects takes as long as reading."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _Reader:
    """A window on the text that moves forward; ``position`` is the index of the next character in it."""

    def __init__(self, stream: io.BufferedReader, file: AnyPath) -> None:
        start = stream.read(len(codecs.BOM_UTF8))
        utf16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        stream.seek(3 if start.startswith(codecs.BOM_UTF8) else 0)
        self.encoding = "UTF-16" if utf16 else "UTF-8"
        self.decoder = codecs.getincrementaldecoder(self.encoding)()
        self.stream, self.file = stream, file
        self.text, self.position, self.ended = "", 0, False
        self.bytes = stream.tell()
        self.lines, self.column = 0, 0  # of the text before the window

    def read(self, lists: Collection[str], handle: RecordHandler) -> dict[str, Any]:
        self.fill()
        if self.peek() != "{":
            value = self.value()
            self.expect_end()
            return {"": value}
        found: dict[str, Any] = {}
        self.position += 1
        if self.peek() == "}":
            self.position += 1
        else:
            while self.pair(found, lists, handle):
                pass
        self.expect_end()
        return found

    def pair(self, found: dict[str, Any], lists: Collection[str], handle: RecordHandler) -> bool:
        """Read one key and its value into ``found``, and return whether another follows."""
        if self.peek() != '"':
            self.fail("Expecting property name enclosed in double quotes")
        key = self.value()
        if self.peek() != ":":
            self.fail("Expecting ':' delimiter")
        self.position += 1
        if key in lists and key in found:
            raise DataError(f"{self.file}: {short(key)} is there twice; join the two", code="json-duplicate-key")
        found[key] = Count(self.records(key, handle)) if self.peek() == "[" and key in lists else self.value()
        return self.has_next("}")

    def records(self, key: str, handle: RecordHandler) -> int:
        """Hand on the elements of a list, and return their number."""
        self.position += 1
        count = 0
        more = self.peek() != "]"
        if not more:
            self.position += 1
        while more:
            records, window = self.run(), self.bytes
            if not records:  # one by one, until more has been read
                while more and self.bytes == window and len(records) < _RECORDS:
                    records.append(self.value())
                    more = self.has_next("]")
            handle(key, count, records)
            count += len(records)
        return count

    def run(self) -> list[Any]:
        """Return the next elements of the list that the window holds completely, parsed at once; none where that fails.

        What is valid between brackets is a run of complete elements, wherever it was cut. Parsing each by itself takes
        twice as long, and makes strings of its own for its keys.
        """
        end = len(self.text)
        for _ in range(_TRIES):
            end = self.text.rfind("},", self.position, end) + 1
            if not end:
                break
            try:
                records, stop = _scan(f"[{self.text[self.position : end]}]", 0)
            except (StopIteration, ValueError, RecursionError):
                continue
            if stop == end - self.position + 2:
                self.position = end + 1
                return records
        return []

    def has_next(self, close: str) -> bool:
        """Read a comma or the closing bracket, and return whether it is a comma."""
        found = self.peek()
        if found not in (",", close):
            self.fail("Expecting ',' delimiter")
        self.position += 1
        return found == ","

    def value(self) -> Any:
        """Read and return the next value."""
        self.peek()
        while True:
            try:
                value, end = _scan(self.text, self.position)
                # a number may continue beyond the window, such as 1 before e+5
                if end + len("e+5") <= len(self.text) or not self.fill():
                    self.position = end
                    return value
            except StopIteration as stop:
                self.retry(json.JSONDecodeError("Expecting value", self.text, stop.value))
            except json.JSONDecodeError as error:
                self.retry(error)

    def retry(self, error: json.JSONDecodeError) -> None:
        """Read more where that can resolve a failure; else raise it."""
        cut = error.pos + _NEAR > len(self.text) or error.msg.startswith("Unterminated string")
        ahead = error.pos - self.position
        if not (cut and self.fill()):
            self.fail(error.msg, self.position + ahead)

    def peek(self) -> str:
        """Move to the next character that is no space, and return it; "" at the end."""
        while True:
            match = _SPACE.match(self.text, self.position)
            assert match is not None
            self.position = match.end()
            if self.position < len(self.text):
                return self.text[self.position]
            if not self.fill():
                return ""

    def expect_end(self) -> None:
        if self.peek():
            self.fail("Extra data")

    def fill(self) -> bool:
        """Read more, forget what lies before ``position``, and return whether there was more."""
        if self.ended:
            return False
        # as much as is unread: a value longer than a block is not tried again and again
        block = self.stream.read(max(_BLOCK, len(self.text) - self.position))
        pending = len(self.decoder.getstate()[0])
        self.ended = not block
        try:
            more = self.decoder.decode(block, final=self.ended)
        except UnicodeDecodeError as error:
            byte = self.bytes - pending + error.start
            text = f"byte {byte} is not {self.encoding}; save the file as UTF-8"
            raise DataError(f"{self.file}: {text}", code="json-encoding") from None
        if self.ended:
            return False
        self.bytes += len(block)
        gone = self.text[: self.position]
        self.lines += gone.count("\n")
        self.column = len(gone) - gone.rfind("\n") - 1 if "\n" in gone else self.column + len(gone)
        self.text, self.position = self.text[self.position :] + more, 0
        return True

    def fail(self, message: str, position: int | None = None) -> None:
        """Raise a syntax error with its line and column in the file."""
        position = self.position if position is None else position
        error = json.JSONDecodeError(message, self.text, min(position, len(self.text)))
        if error.lineno == 1:
            error.colno += self.column
        error.lineno += self.lines
        raise error
