"""Reads a page as a browser would have to: tags close in order, ids are unique; what it says and refers to."""

import re
from html.parser import HTMLParser

VOID = ("meta", "br", "img", "input")


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.ids, self.words = [], [], [], ""
        self.labels, self.inputs, self.tables, self.scripts, self.styles = [], [], [], {}, {}
        self.elements, self._row = [], None
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        assert len(values) == len(attributes), f"an attribute twice: {attributes}"
        self.elements.append((tag, values))
        self.links += [values[key] for key in ("src", "href", "action", "data") if key in values]
        self.ids += [values["id"]] if "id" in values else []
        assert tag not in ("iframe", "link", "object", "embed", "base")
        assert not [key for key in values if key.startswith("on")]
        self.labels += [values["for"]] if tag == "label" else []
        self.inputs += [values] if tag == "input" else []
        if tag == "table":
            self.tables.append({"caption": "", "rows": []})
        if tag == "tr":
            self.tables[-1]["rows"].append([])
        if tag in ("th", "td"):
            self.tables[-1]["rows"][-1].append("")
        if tag not in VOID:
            self.open.append((tag, values))

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        tags = [tag for tag, _ in self.open]
        if tags and tags[-1] in ("script", "style"):
            kept = self.scripts if tags[-1] == "script" else self.styles
            key = self.open[-1][1].get("id", "")
            kept[key] = kept.get(key, "") + data
            return
        self.words += data
        if "table" in tags and "caption" in tags:
            self.tables[-1]["caption"] += data
        elif "th" in tags or "td" in tags:
            self.tables[-1]["rows"][-1][-1] += data

    def table(self, caption):
        """Rows by their first cell."""
        (one,) = [table for table in self.tables if table["caption"].startswith(caption)]
        return {row[0]: row[1:] for row in one["rows"]}

    def of(self, tag):
        return [values for name, values in self.elements if name == tag]


def luminance(color):
    """Of a color of six hex digits (WCAG 2)."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def colors(css, selector):
    """The custom properties of the first rule of that selector that has some."""
    for rule in re.finditer(re.escape(selector) + r"\s*\{([^}]*)\}", css):
        found = dict(re.findall(r"--(\w+):\s*(#[0-9a-fA-F]{6})", rule[1]))
        if found:
            return found
    raise AssertionError(selector)
