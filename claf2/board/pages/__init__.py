"""The pages of the board: a suite's scores, a run, a comparison; as one file that works offline, or from a server.

The tables are plain HTML and complete without JavaScript. Templates are in ``board/templates``, styles, scripts and
libraries in ``board/assets``. In a file they are inlined, and its content security policy lets it run nothing else and
load nothing. From a server they are files, and its policy allows no inline code at all.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import claf2
from claf2.benchmarking.summary import Summary, read_summary
from claf2.board.pages.numbers import FILTERS
from claf2.board.pages.run import RunDetails, make_run_page
from claf2.board.pages.suite import RowRuns, make_suite_page, suite_facts
from claf2.runtime.templates import page_environment

if TYPE_CHECKING:
    from jinja2 import Environment

    from claf2.benchmarking.comparison import Comparison

__all__ = [
    "FOREVER", "Site", "asset_digest", "export_page", "make_environment", "read_asset", "render_comparison",
    "render_error", "render_index", "render_run", "render_suite",
]  # fmt: skip

ASSETS = Path(__file__).parent.parent / "assets"
TEMPLATES = Path(__file__).parent.parent / "templates"

FOREVER = "public, max-age=31536000, immutable"
"""How long a browser keeps an asset: its address contains a digest of the content."""

MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}

MOST_RUNS = 1000
"""The most runs that an exported file has pages of. Each takes about 20 kB."""

FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""Characters that HTML or UTF-8 cannot represent."""


@dataclass(frozen=True)
class Site:
    """The server that a page comes from."""

    root: str = ""
    """The path of the board on the server, without a slash at the end."""
    version: str = ""
    """The number of changes of the data. Pages ask ``/api/version`` for it, and are renewed when it is another one."""


@dataclass(frozen=True)
class View:
    """A template and its content. A file has several of them, of which it shows one at a time."""

    template: str
    page: object
    id: str = ""


@dataclass(frozen=True)
class SuiteCard:
    """A suite on the first page of the board."""

    name: str
    facts: str


@dataclass(frozen=True)
class IndexPage:
    """The content of the first page of the board."""

    suites: tuple[SuiteCard, ...]
    url: str


@dataclass(frozen=True)
class ErrorPage:
    """The content of a page that says what is wrong with a request."""

    title: str
    message: str


@dataclass(frozen=True)
class ComparisonPage:
    """The content of the page that compares two models."""

    suite: str
    comparison: Comparison
    interval: str
    notes: tuple[str, ...]


def export_page(
    summary: Summary | Mapping[str, object],
    rows: Sequence[RowRuns] = (),
    runs: Iterable[RunDetails] = (),
    remarks: Sequence[str] = (),
) -> str:
    """Return the pages of a suite and of its runs as one HTML file, to be written as UTF-8.

    Args:
        summary: the summary of a bench, or the same as a mapping, such as the content of ``bench.json``.
        rows: the runs of each row of the summary, in their order.
        runs: the runs that get a page of their own, at most 1,000: the others are left out.
        remarks: lines below the chart, such as the verdicts on checkpoints.

    Raises:
        ValueError: if the mapping is not a summary; the message says which entry is wrong.
    """
    summary = read_summary(summary)
    page = make_suite_page(summary, rows, remarks)
    row_of = {run: row for row in rows for run in row.digests.values()}
    pages = [make_run_page(run, row_of.get(run.digest)) for run in islice(runs, MOST_RUNS)]
    views = [View("suite.html", page), *(View("run.html", run, _anchor(run.details.digest)) for run in pages)]
    names = ["board.js", "table.js", "steps.js", *(["run.js"] if pages else [])]
    libraries = ["datatables"]
    if page.chart["series"] or pages:
        libraries.append("chart")
    scripts = [*map(_read_library, libraries), *map(_read_text, names)]
    style, theme = _read_text("board.css"), _read_text("theme.js")
    known = {run.details.digest for run in pages}
    return _render(
        views, page.title, None, scripts,
        run_url=lambda digest: f"#{_anchor(digest)}" if digest in known else "", suite_url=lambda _: "#",
        style=style, theme=theme, style_hash=_csp_hash(style),
        script_hashes=" ".join(map(_csp_hash, [theme, *scripts])),
    )  # fmt: skip


def render_suite(summary: Summary, rows: Sequence[RowRuns], site: Site) -> str:
    """Return the page of a suite, from a server.

    Args:
        summary: the summary of the suite.
        rows: the runs of each row of the summary, in their order.
        site: the server.
    """
    page = make_suite_page(summary, rows)
    scripts = ["datatables.min.js", "chart.min.js", "board.js", "table.js", "steps.js", "live.js"]
    return _render_site(View("suite.html", page), page.title, site, scripts)


def render_run(details: RunDetails, row: RowRuns | None, site: Site) -> str:
    """Return the page of a run, from a server.

    Args:
        details: the run.
        row: the runs of the same row, to switch to.
        site: the server.
    """
    page = make_run_page(details, row)
    return _render_site(View("run.html", page), page.title, site, ["chart.min.js", "board.js", "run.js"])


def render_comparison(comparison: Comparison, suite: str, site: Site) -> str:
    """Return the page that compares two models of a suite, from a server."""
    from claf2.benchmarking.comparison import list_notes

    interval = f"{100 * comparison.tasks[0].difference.level:.3g} % interval"
    page = ComparisonPage(suite, comparison, interval, tuple(list_notes(comparison)))
    title = f"{comparison.names[1]} against {comparison.names[0]}"
    return _render_site(View("comparison.html", page), title, site, ["board.js"])


def render_error(title: str, message: str, site: Site) -> str:
    """Return a page that says what is wrong with a request, from a server."""
    return _render_site(View("error.html", ErrorPage(title, message)), title, site, ["board.js"])


def render_index(summaries: Sequence[Summary], url: str, site: Site) -> str:
    """Return the first page of a board, with its suites.

    Args:
        summaries: the summary of each suite.
        url: the address of the board, for the command that submits results.
        site: the server.
    """
    cards = tuple(SuiteCard(summary.suite, suite_facts(summary)) for summary in summaries)
    return _render_site(View("index.html", IndexPage(cards, url)), "Board", site, ["board.js", "live.js"])


def read_asset(name: str) -> tuple[bytes, str] | None:
    """Return the content of a style or script and its media type; ``None`` if there is no such asset."""
    path = ASSETS / name
    # Only names of the folder's own files: a name from a request may be a path.
    if path.suffix not in MEDIA_TYPES or path not in ASSETS.iterdir():
        return None
    text = _read_library(name.removesuffix(".min.js")) if name.endswith(".min.js") else _read_text(name)
    return text.encode(), MEDIA_TYPES[path.suffix]


def _render_site(view: View, title: str, site: Site, scripts: Sequence[str]) -> str:
    def asset_url(name: str) -> str:
        return f"{site.root}/assets/{name}?{asset_digest(name)}"

    return _render(
        [view], title, site, scripts,
        run_url=lambda digest: f"{site.root}/runs/{quote(digest, safe='')}",
        suite_url=lambda suite: f"{site.root}/suites/{quote(_clean(suite), safe='')}",
        asset_url=asset_url,
    )  # fmt: skip


def _render(
    views: Sequence[View], title: str, site: Site | None, scripts: Sequence[str], **more: str | Callable[[str], str]
) -> str:
    template = make_environment().get_template("page.html")
    return str(template.render(views=views, title=title, site=site, scripts=scripts, version=claf2.__version__, **more))


@cache
def make_environment(*folders: Path) -> Environment:
    """Return what fills templates, which escapes every value.

    Args:
        folders: where templates are looked for, before those of the board.
    """
    # `finalize` sees every value before it is escaped, so it covers all names, whatever the templates do with them.
    environment = page_environment([*folders, TEMPLATES], finalize=_replace_forbidden)
    environment.filters.update(FILTERS)
    environment.filters["script_json"] = _to_script_json
    return environment


def _replace_forbidden(value: object) -> object:
    # A value with `__html__` is HTML already: the output of a macro, whose own values were replaced before.
    return value if hasattr(value, "__html__") else _clean(str(value))


def _clean(text: str) -> str:
    # What is printable has none of them, and is most of a page.
    return text if text.isprintable() else FORBIDDEN.sub("\ufffd", text)


def _anchor(digest: str) -> str:
    return f"run-{digest[:16]}"


def _read_text(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _read_library(name: str) -> str:
    """Return a JavaScript library with its licence, which every copy must include."""
    return f"/*!\n{_read_text(f'{name}.LICENSE.txt').strip()}\n*/\n{_read_text(f'{name}.min.js').strip()}\n"


@cache
def asset_digest(name: str) -> str:
    """Return what the address of an asset contains, so that another content has another address."""
    return hashlib.sha256((ASSETS / name).read_bytes()).hexdigest()[:12]


def _csp_hash(text: str) -> str:
    """Return the source expression with which a content security policy allows one inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _to_script_json(data: object) -> str:
    """Return data as JSON without `<`, `>` and `&`, so that no name can end the script element that holds it."""
    return re.sub("[<>&]", lambda match: f"\\u{ord(match[0]):04x}", json.dumps(data, allow_nan=False))
