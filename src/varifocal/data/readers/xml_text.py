"""Untrusted XML: decoded as it declares, without a document type, so that no entity can be defined or fetched."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from xml.parsers import expat

from varifocal.data.archive import AnyPath
from varifocal.data.paths import decode, read_bytes
from varifocal.utils.errors import DataError

_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")


def xml_text(content: bytes, file: AnyPath) -> tuple[str, bool]:
    """Return the text of an XML file without its declaration, and whether it was taken for Latin-1.

    Raises:
        DataError: it cannot be decoded, or has a document type.
    """
    declared = _DECLARED.match(content[:200])
    text, latin = "", False
    if declared and declared[1].lower() not in (b"utf-8", b"utf8", b"utf-16"):
        name = declared[1].decode("ascii")
        try:
            text = content.decode(name)
        except (UnicodeDecodeError, LookupError):
            text = f"it declares the encoding {name}, which is not known or not that of the file; save it as UTF-8"
            raise DataError(f"{file}: {text}", code="xml-encoding") from None
    else:
        text, latin = decode(content, file)
    # without the declaration the parser takes the text as it is; lines keep their numbers
    text = _DECLARATION.sub(lambda match: "\n" * match[0].count("\n"), text, count=1)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        text = "it has a document type, which could define entities without end; remove <!DOCTYPE"
        raise DataError(f"{file}: {text}", code="xml-document-type")
    return text, latin


def parse_xml(content: bytes, file: AnyPath) -> tuple[ET.Element, bool]:
    """Return the root of a small XML file, and whether it was taken for Latin-1.

    Raises:
        DataError: as :func:`xml_text`, or it is not XML; the message names the line.
    """
    text, latin = xml_text(content, file)
    try:
        return _without_namespace(ET.fromstring(text)), latin
    except ET.ParseError as error:
        line, column = error.position
        reason = expat.ErrorString(error.code) if error.code else str(error)
        raise _syntax_error(file, line, column, reason) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: the XML cannot be read ({error}); export it again", code="xml-value") from None


def _without_namespace(root: ET.Element) -> ET.Element:
    """Return the root with the local names of all elements, where a default namespace is declared."""
    if root.tag.startswith("{"):
        for node in root.iter():
            if isinstance(node.tag, str):
                node.tag = node.tag.rpartition("}")[2]
    return root


def scan_xml(file: AnyPath, start: Callable[[str, dict[str, str], int], None], end: Callable[[str, str], None]) -> bool:
    """Walk through a large XML file, and return whether it was taken for Latin-1.

    ``start(tag, attributes, line)`` is called at the begin of each element, ``end(tag, text)`` at its end.

    Raises:
        DataError: as :func:`parse_xml`.
    """
    text, latin = xml_text(read_bytes(file), file)
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    words: list[str] = []

    def begin(tag: str, attributes: dict[str, str]) -> None:
        words.clear()
        start(tag, attributes, parser.CurrentLineNumber)

    def finish(tag: str) -> None:
        end(tag, "".join(words).strip())
        words.clear()

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = begin, finish, words.append
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise _syntax_error(file, error.lineno, error.offset, expat.ErrorString(error.code)) from None
    except ValueError as error:
        raise DataError(f"{file}: the XML cannot be read ({error}); export it again", code="xml-value") from None
    return latin


def _syntax_error(file: AnyPath, line: int, column: int, reason: str | None) -> DataError:
    text = f"this is not valid XML at line {line} column {column + 1} ({reason}); export it again"
    return DataError(f"{file}: {text}", code="xml-syntax")


def line_of_element(file: AnyPath, tag: str, number: int) -> int:
    """Return the line where the element of that tag and number, counted from 1, begins; 0 if it is unknown."""
    lines: list[int] = []

    def start(name: str, _: dict[str, str], line: int) -> None:
        if name == tag:
            lines.append(line)

    try:
        scan_xml(file, start, lambda tag, text: None)
    except DataError:
        return 0
    return lines[number - 1] if 0 < number <= len(lines) else 0


def root_tag(file: AnyPath) -> str:
    """Return the tag of the first element, from the beginning of a file; "" if that is no XML."""
    try:
        with file.open("rb") as stream:
            text, _ = decode(stream.read(4096), file)
    except (OSError, ValueError, DataError):
        return ""
    match = re.search(r"<([A-Za-z_][\w.-]*)", text)
    return match[1] if match and text.lstrip().startswith("<") else ""
