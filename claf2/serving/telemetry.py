"""What a service counts about itself, for Prometheus."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

__all__ = ["METRICS_DIR", "METRICS_TYPE", "Telemetry"]

METRICS_DIR = "PROMETHEUS_MULTIPROC_DIR"
"""The variable with which `prometheus_client` is told where several processes count together."""

METRICS_TYPE = CONTENT_TYPE_LATEST
"""The content type of the counters."""

SECOND_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TOKEN_BUCKETS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 16384)

PROCESS_FILE = re.compile(r"gauge_livesum_(\d+)\.db")


class Telemetry:
    """The counters of a service. Names of models and tasks are its own: nothing that a client sends becomes a label."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "claf2_requests", "Requests by their answer's status; each item of a list counts.",
            ["model", "task", "status"], registry=self._registry,
        )  # fmt: skip
        self.rejected = Counter(
            "claf2_rejected", "Requests that were not tried, by reason.", ["reason"], registry=self._registry
        )
        self.latency = Histogram(
            "claf2_request_seconds", "Seconds from the body of a message to its answer.", ["route"],
            buckets=SECOND_BUCKETS, registry=self._registry,
        )  # fmt: skip
        self.batch_rows = Histogram(
            "claf2_batch_requests", "Requests in a batch.", ["model"], buckets=ROW_BUCKETS, registry=self._registry
        )
        self.batch_tokens = Histogram(
            "claf2_batch_tokens", "Tokens in a batch.", ["model"], buckets=TOKEN_BUCKETS, registry=self._registry
        )
        self.batch_seconds = Histogram(
            "claf2_batch_seconds", "Seconds that a model computes a batch.", ["model"],
            buckets=SECOND_BUCKETS, registry=self._registry,
        )  # fmt: skip
        self.in_progress = Gauge(
            "claf2_requests_in_progress", "Requests that wait or are computed.", ["model"],
            multiprocess_mode="livesum", registry=self._registry,
        )  # fmt: skip

    def observe_batch(self, model: str, rows: int, tokens: int, seconds: float) -> None:
        """Count a batch of a model."""
        self.batch_rows.labels(model).observe(rows)
        self.batch_tokens.labels(model).observe(tokens)
        self.batch_seconds.labels(model).observe(seconds)

    def format(self) -> bytes:
        """Return all counters, of all processes of the service, in Prometheus' format."""
        folder = os.environ.get(METRICS_DIR)
        if folder is None:
            return generate_latest(self._registry)
        for path in Path(folder).glob("gauge_livesum_*.db"):
            match = PROCESS_FILE.fullmatch(path.name)
            if match and not _is_alive(int(match[1])):
                # Two processes may notice the same.
                with suppress(FileNotFoundError):
                    mark_process_dead(int(match[1]), folder)  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
