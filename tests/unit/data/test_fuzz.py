"""Damaged annotation files: a DataError, or what a slow literal reader makes of them; nothing else.

Some hundred inputs a reader here; ``scripts/fuzz_readers.py`` tries as many as there is time for.
"""

import os
import tempfile
from pathlib import Path

import pytest
from folders import fill, found, pack
from fuzzing import TARGETS, WORDS, attempt, damage
from fuzzing_formats import ALL_TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from varifocal.data.load import load_dataset
from varifocal.utils.errors import DataError

INPUTS = int(os.environ.get("VARIFOCAL_FUZZ", "200"))


@pytest.mark.parametrize("name", list(ALL_TARGETS))
def test_undamaged_they_are_read(tmp_path, name):
    target = ALL_TARGETS[name]
    fill(tmp_path, target.files)
    for file in target.damaged:
        content = target.files[file]
        assert attempt(target, tmp_path, file, content.encode() if isinstance(content, str) else content) == "read"


@pytest.mark.parametrize("name", list(ALL_TARGETS))
def test_damaged_they_are_refused_or_right(name):
    target = ALL_TARGETS[name]
    edit = st.tuples(
        st.integers(0, 6),
        st.integers(0, 1000),
        st.integers(1, 12),
        st.sampled_from((*WORDS, *target.words)) | st.text(),
    )

    with tempfile.TemporaryDirectory() as folder:
        root = fill(Path(folder), target.files)

        @settings(max_examples=INPUTS, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
        @given(file=st.sampled_from(target.damaged), edits=st.lists(edit, min_size=1, max_size=5))
        def run(file, edits):
            content = target.files[file]
            whole = content.encode() if isinstance(content, str) else content
            try:
                attempt(target, root, file, damage(whole, edits))
            finally:
                fill(root, {file: whole})

        run()


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_damaged_archives(tmp_path, suffix):
    target = TARGETS["coco"]
    path = pack(tmp_path / f"x{suffix}", target.files)
    whole, expected = path.read_bytes(), found(load_dataset(path))
    edit = st.tuples(st.integers(0, 5), st.integers(0, 1000), st.integers(1, 12), st.sampled_from(WORDS) | st.text())

    @settings(max_examples=INPUTS, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
    @given(edits=st.lists(edit, min_size=1, max_size=4))
    def run(edits):
        path.write_bytes(damage(whole, edits))
        try:
            data = load_dataset(path)
        except DataError:
            return
        # a tar has no checksum of its contents
        assert suffix == ".tar" or found(data) == expected

    run()
