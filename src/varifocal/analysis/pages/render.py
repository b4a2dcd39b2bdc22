"""Rendering of self-contained pages from Jinja2 templates; all text of a data set or a run is escaped."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from varifocal.analysis.charts import svg

PACKAGE = "varifocal"


def render(template: str, **values: object) -> str:
    """Return a whole page; ``template`` is a path inside the package, such as ``tools/check/page.html``."""
    return load_environment().get_template(template).render(**values)


@cache
def load_environment() -> Environment:
    """Return the environment of all templates.

    It escapes every value that is not :class:`Markup`, and raises on an undefined name.
    """
    environment = Environment(
        loader=PackageLoader(PACKAGE, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.globals |= {
        "asset": read_asset,
        "chart_style": Markup(svg.STYLE),
        "chart_dark_style": Markup(svg.DARK_STYLE),
    }
    environment.filters |= {
        "capital": capital,
        "sentence": sentence,
        "number": lambda value: f"{value:,}",
    }
    return environment


@cache
def read_asset(path: str) -> Markup:
    """Return a style sheet or script of the package; ``path`` is relative to the package."""
    return Markup((files(PACKAGE) / path).read_text(encoding="utf-8"))


def capital(text: str) -> str:
    """Return the text with a capital first letter; the rest, which may hold names, stays as it is."""
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """Return the text with one period at its end."""
    return f"{text.rstrip('.')}."


def inline_chart(chart: str, key: str) -> Markup:
    """Return an SVG of :mod:`varifocal.analysis.charts`, whose texts are already escaped, as a part of a page.

    The style is removed, because the page has it once. The ``key`` makes its ids unique on the page.
    """
    bare = re.sub(r"<style>.*?</style>", "", chart, count=1, flags=re.DOTALL)
    bare = bare.replace(' xmlns="http://www.w3.org/2000/svg"', "", 1)
    found = re.search(r'aria-labelledby="(vf[0-9a-f]{8})t ', bare)
    return Markup((bare.replace(found[1], f"{found[1]}-{key}") if found else bare).strip())


def inline_charts(charts: Iterable[str], key: str) -> list[Markup]:
    """Return the charts that are not empty as parts of a page; their ids have the ``key`` and their index."""
    return [inline_chart(chart, f"{key}{i}") for i, chart in enumerate(charts) if chart]


def jpeg_uri(image: Image.Image, quality: int) -> str:
    """Return the image as a ``data:`` URI."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
