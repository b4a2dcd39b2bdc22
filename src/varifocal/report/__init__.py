"""Runs and sweeps on one page: curves, numbers side by side, diagnosis, examples, and where VFNet's star looked."""

from varifocal.report.make import make_report as make_report
from varifocal.report.page import make_page as make_page
from varifocal.report.report import Report as Report
