"""Errors carry codes, and every sentence of the package stands in one list."""

import pickle
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from error_codes import raises_code

from varifocal.utils.errors import ConfigError, DataError

# one cause that several modules find: an option and the argument of the same name, a command and the page that it makes
SHARED = {
    "checkpoint-is-exported",
    "image-type",
    "max-detections-range",
    "score-threshold-range",
    "unknown-baseline",
}
ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "scripts"))
import error_sentences  # noqa: E402


def test_an_error_without_a_code():
    assert DataError("a.jpg: no image").code == ""
    assert str(DataError("a.jpg: no image", code="no-image")) == "a.jpg: no image"


def test_the_code_passes_between_processes():
    error = pickle.loads(pickle.dumps(DataError("a.jpg: no image", code="no-image")))
    assert (str(error), error.code) == ("a.jpg: no image", "no-image")


def test_raises_code_looks_at_the_code_and_the_kind():
    with raises_code("one", DataError) as caught:
        raise DataError("sentence", code="one")
    assert str(caught.value) == "sentence"
    for error in (DataError("sentence", code="two"), ConfigError("sentence", code="one"), DataError("sentence")):
        with pytest.raises((AssertionError, pytest.fail.Exception, type(error))), raises_code("one", DataError):
            raise error


def test_the_list_of_sentences_is_that_of_the_source():
    listed = error_sentences.SNAPSHOT.read_text(encoding="utf-8")
    assert listed == error_sentences.snapshot(), "look at the change, then run scripts/error_sentences.py"


def test_a_code_is_short_and_means_one_thing():
    texts = defaultdict(set)
    for one in error_sentences.sentences():
        if one.code:
            assert error_sentences.CODE.fullmatch(one.code), one
            assert len(one.code) <= 40, one
            texts[one.code].add(one.where.rpartition(":")[0])
    assert {code for code, files in texts.items() if len(files) > 1} == SHARED


def test_the_reader_of_sentences(tmp_path):
    source = 'raise DataError(f"{file}: no {kind!r} at " + where, code="no-kind")\nraise ConfigError(text)\n'
    (tmp_path / "module.py").write_text(source, encoding="utf-8")
    first, second = error_sentences.sentences(tmp_path)
    assert (first.code, first.text, first.where) == ("no-kind", "{file}: no {kind} at {where}", "module.py:1")
    assert (second.code, second.text, second.where) == ("", "{text}", "module.py:2")
