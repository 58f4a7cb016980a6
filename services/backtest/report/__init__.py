"""A finished run as JSON for programs and as one self-contained page for people."""

from services.backtest.report.content import build_report
from services.backtest.report.kept import render_kept
from services.backtest.report.page import REPORT_HTML, REPORT_JSON, write_report

__all__ = ["REPORT_HTML", "REPORT_JSON", "build_report", "render_kept", "write_report"]
