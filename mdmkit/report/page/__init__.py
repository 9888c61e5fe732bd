"""Runs as one page of HTML that needs no network."""

from mdmkit.report.page.write import Report, make_report, write_report

__all__ = ["Report", "make_report", "write_report"]
