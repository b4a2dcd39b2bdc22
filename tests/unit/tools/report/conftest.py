"""Two runs on the same data, made once; whatever is called something is called like HTML."""

import pytest
from run_folders import EVIL, make_labels, make_model, make_run

from varifocal.tools.report.make import make_report
from varifocal.tools.report.page import make_page


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs & <i>")
    names = [EVIL, "berry"]
    data = make_labels(root / 'da"ta', make_model(names), name="a&b'<i>{}.png")
    first = make_run(root / "first<b>&amp;'", data, make_model(names))
    second = make_run(root / "second", data, make_model(names, 1), "model.loss=focal", shift=0.01)
    return data, [first, second]


@pytest.fixture(scope="session")
def report(folders):
    return make_report(folders[1], examples=2)


@pytest.fixture(scope="session")
def page(report):
    return make_page(report)
