"""Templates: everything is escaped unless a chart or a file of the package, and a name without a value is an error."""

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from page_reader import Page

import varifocal
from varifocal.analysis.charts.bars import Row, Segment, bars
from varifocal.analysis.pages.render import capital, inline_charts, load_environment, sentence

PACKAGE = Path(varifocal.__file__).parent
TEMPLATES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.html"))
HOSTILE = "</title></style><script>alert(1)</script>\" onload='alert(2)' &lt;"


def macros():
    return load_environment().get_template("analysis/pages/macros.html").module


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_template_calls_a_text_safe(name):
    source = (PACKAGE / name).read_text(encoding="utf-8")
    assert not re.search(r"\|\s*safe\b|autoescape|Markup|\{% raw|https?:", source)
    assert not re.search(r"=\{\{|=\w+\{\{", source)  # an attribute without quotes would end at a space
    load_environment().get_template(name)  # which compiles it


def test_there_are_templates():
    assert {"analysis/pages/base.html", "tools/check/page.html", "tools/report/page.html"} <= set(TEMPLATES)


def test_values_are_escaped_in_text_and_attributes():
    row = (HOSTILE, 2, 1)
    for text in (
        macros().table(HOSTILE, [HOSTILE], [[HOSTILE, HOSTILE]], HOSTILE),
        macros().bars(HOSTILE, [HOSTILE] * 3, [row], HOSTILE),
        macros().sentences([HOSTILE]),
        macros().navigation([(HOSTILE, HOSTILE)]),
        macros().figure(HOSTILE, HOSTILE),
    ):
        read = Page(str(text))  # which finds no handler
        assert HOSTILE in read.words
        assert read.scripts == {}
        assert "<script" not in text


def test_a_name_without_a_value_is_an_error():
    with pytest.raises(UndefinedError, match="'nothing' is undefined"):
        load_environment().from_string("{{ nothing }}").render()
    with pytest.raises(UndefinedError, match="no attribute 'colour'"):
        load_environment().from_string("{{ one.colour }}").render(one=Row("a", ()))


def test_data_in_a_script_cannot_end_it():
    text = load_environment().from_string("<script>{{ data|tojson }}</script>").render(data={"a": [HOSTILE, 1.5]})
    assert text.count("<") == 2
    assert '"a":[' in text


def test_equal_charts_have_different_ids():
    chart = bars("A & b", "What <i> see", "points", [Row("<b>", (Segment(3, 0, "3 & no more"),), "3")])
    first, second = inline_charts([chart, "", chart], "k")
    read = Page(str(first + second))
    assert len(read.ids) == 4
    assert len(set(read.ids)) == 4
    assert [one["aria-labelledby"].split() for one in read.of("svg")] == [read.ids[:2], read.ids[2:]]
    assert read.styles == {}
    assert "<b>" in read.words
    assert load_environment().from_string("{{ one }}").render(one=first) == first


def test_sentences():
    assert [capital(text) for text in ("aP of X", "é", "")] == ["AP of X", "É", ""]
    assert [sentence(text) for text in ("It is", "It is.", "")] == ["It is.", "It is.", "."]
