"""The report of a bench: one HTML file that works offline, with tables, a chart and comparisons of options.

The tables are plain HTML and complete without JavaScript. The template, styles, scripts and libraries are the files in
``assets/``. They are inlined, and the content security policy of the page lets it run nothing else and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from claf2.benchmarking.report.page import FILTERS, ChartData, make_page
from claf2.benchmarking.summary import Summary, read_summary

__all__ = ["render"]

ASSETS = Path(__file__).parent / "assets"

FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""Characters that HTML or UTF-8 cannot represent."""


def render(summary: Summary | Mapping[str, object]) -> str:
    """Return the report as an HTML page, to be written as UTF-8.

    Args:
        summary: the summary of a bench, or the same as a mapping, such as the content of ``bench.json``.

    Raises:
        ValueError: if the mapping is not a summary; the message says which entry is wrong.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    page = make_page(read_summary(summary))
    # `finalize` sees every value before it is escaped, so it covers all names, whatever the template does with them.
    environment = Environment(
        loader=FileSystemLoader(ASSETS), autoescape=True, undefined=StrictUndefined, finalize=_replace_forbidden,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(FILTERS)
    libraries = ("datatables", "chart") if page.chart["series"] else ("datatables",)
    scripts = [*map(_read_library, libraries), _read_asset("report.js")]
    style = _read_asset("report.css")
    return environment.get_template("report.html").render(
        page=page, style=style, scripts=scripts, chart_json=_to_script_json(page.chart),
        style_hash=_csp_hash(style), script_hashes=" ".join(map(_csp_hash, scripts)),
    )  # fmt: skip


def _replace_forbidden(value: object) -> object:
    # A value with `__html__` is HTML already: the output of a macro, whose own values were replaced before.
    return value if hasattr(value, "__html__") else FORBIDDEN.sub("\ufffd", str(value))


def _read_asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _read_library(name: str) -> str:
    """Return a JavaScript library with its licence, which every copy must include."""
    return f"/*!\n{_read_asset(f'{name}.LICENSE.txt').strip()}\n*/\n{_read_asset(f'{name}.min.js').strip()}\n"


def _csp_hash(text: str) -> str:
    """Return the source expression with which a content security policy allows one inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _to_script_json(data: ChartData) -> str:
    """Return data as JSON without `<`, `>` and `&`, so that no name can end the script element that holds it."""
    return re.sub("[<>&]", lambda match: f"\\u{ord(match[0]):04x}", json.dumps(data, allow_nan=False))
