"""How fast the page of a suite is in Chromium: the first paint, and a click on a column's head or a key in the search.

    python benchmarks/board_pages.py --models 500 --tasks 12 --seeds 3

The table is generated. A time ends when the browser has painted: for the first paint, by the browser's own record
(`first-contentful-paint`, from the start of the navigation); for sorting and searching, after the frame that follows
the change of the rows. CPU is what the page's main thread computed for it, which other processes do not lengthen. The
page is opened as an exported file, and from a server that has written it before. Medians of `--repeats` are printed.
Needs the browser of `make browser`, or one named by ``CLAF2_BROWSER``.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from claf2.benchmarking.summary import Column, Delta, Row, ScoreCell, Summary
from claf2.board.pages import export_page
from claf2.board.pages.routes import add_pages
from claf2.board.pages.suite import RowRuns
from claf2.registry import digest

PAINTED = """async () => {
    const body = document.querySelector("#table tbody");
    const began = performance.now();
    const changed = new Promise((done) => {
        new MutationObserver((_, observer) => { observer.disconnect(); done(); }).observe(body, { childList: true });
    });
    CHANGE;
    await changed;
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    return performance.now() - began;
}"""

SORT = "document.querySelector('#table thead th.score:nth-child(5)').click()"
SEARCH = "const e = document.getElementById('search'); e.value = 'TEXT'; e.dispatchEvent(new Event('input'))"
CHANGES = {"sort": SORT, "search": SEARCH.replace("TEXT", "model-42"), "search cleared": SEARCH.replace("TEXT", "")}


def make_summary(models: int, tasks: int, seeds: int) -> Summary:
    """Return a table with a row per model."""
    chance = random.Random(0)

    def cell() -> ScoreCell:
        mean = chance.uniform(50, 90)
        values = tuple(mean + chance.gauss(0, 1) for _ in range(seeds))
        return ScoreCell(
            values, mean, mean - 1, mean + 1, (), "*" * chance.randrange(3), Delta(mean - 90, 0.04, "worse")
        )

    columns = tuple(Column(f"task{number}", "valid/accuracy", f"task{number} (accuracy)") for number in range(tasks))
    rows = []
    for number in range(models):
        cells = tuple(cell() for _ in columns)
        average = statistics.mean(each.mean or 0.0 for each in cells)
        rows.append(Row(f"organization/model-{number:03}-base", tuple(range(seeds)), cells, None, "bert", {}, average))
    return Summary("generated", columns, tuple(rows), reference="the best row of the column")


class GeneratedSource:
    """A board with one suite, which does not change."""

    def __init__(self, summary: Summary) -> None:
        def runs(row: Row) -> RowRuns:
            keys = [(column.task, seed) for column in summary.columns for seed in row.seeds]
            return RowRuns(digest(row.model)[:16], {key: digest([row.model, *key]) for key in keys})

        self.rows = summary, list(map(runs, summary.rows)), 1

    def change_number(self) -> int:
        """Return 1: nothing changes."""
        return 1

    def summaries(self) -> list[Summary]:
        """Return the only summary."""
        return [self.rows[0]]

    def table(self, _: str) -> tuple[Summary, list[RowRuns], int]:
        """Return the only table."""
        return self.rows

    def run(self, _: str) -> None:
        """Return nothing: no run is opened."""

    def comparison(self, *_: str) -> Any:
        """Refuse: nothing is compared."""
        raise NotImplementedError


@contextmanager
def serve(summary: Summary) -> Iterator[str]:
    """Serve the page of a summary; yield its address."""
    import uvicorn
    from fastapi import FastAPI

    app = FastAPI()
    app.get("/api/version")(lambda: {"changes": 1})
    add_pages(app, GeneratedSource(summary))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/suites/generated"
    server.should_exit = True
    thread.join()


def measure(browser: Any, address: str, repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Return the wall time and the CPU time in milliseconds of each action, one pair per repeat."""
    times: dict[str, list[tuple[float, float]]] = {"first paint": [], **{name: [] for name in CHANGES}}
    for _ in range(repeats):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.goto(address)
        page.wait_for_selector("#table.ready")
        painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        times["first paint"].append((painted, _cpu(session)))
        for name, change in CHANGES.items():
            before = _cpu(session)
            wall = page.evaluate(f"({PAINTED.replace('CHANGE', change)})()")
            times[name].append((wall, _cpu(session) - before))
        page.close()
    return times


def _cpu(session: Any) -> float:
    metrics = {entry["name"]: entry["value"] for entry in session.send("Performance.getMetrics")["metrics"]}
    return 1000 * float(metrics["TaskDuration"])


def main() -> None:
    """Print a line per action."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("models", 500), ("tasks", 12), ("seeds", 3), ("repeats", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    began = time.perf_counter()
    summary = make_summary(options.models, options.tasks, options.seeds)
    text = export_page(summary)
    print(f"rendered in {time.perf_counter() - began:.2f} s, {len(text.encode()) / 2**20:.1f} MiB")
    executable = Path(os.environ.get("CLAF2_BROWSER") or Path(sys.prefix) / "browser/chromium")
    with tempfile.TemporaryDirectory() as folder, serve(summary) as address, sync_playwright() as driver:
        path = Path(folder, "page.html")
        path.write_text(text, encoding="utf-8")
        browser = driver.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--no-zygote", "--disable-webgl"]
        )
        urlopen(address).read()
        for kind, place in (("file", path.as_uri()), ("server", address)):
            print(f"{kind:<16}{'ms':>8}{'CPU ms':>8}")
            for name, pairs in measure(browser, place, options.repeats).items():
                wall, cpu = (statistics.median(values) for values in zip(*pairs, strict=True))
                print(f"{name:<16}{wall:>8.0f}{cpu:>8.0f}")
        browser.close()


if __name__ == "__main__":
    main()
