"""The table of docs/data.md is what benchmarks/data_reading.json says."""

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_page_shows_what_was_measured():
    spec = importlib.util.spec_from_file_location("data_reading", ROOT / "benchmarks" / "data_reading.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    results = json.loads(module.TARGET.read_text(encoding="utf-8"))
    page = module.PAGE.read_text(encoding="utf-8")
    assert module.put_table(page, results) == page
    largest = results["coco, 1 million"]
    row = f"| coco, 1 million | 1,000,000 | 7,000,000 | {largest['seconds']:.0f} | {largest['peak_mib']:,} MiB |"
    assert row in page.splitlines()
