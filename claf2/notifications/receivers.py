"""Receivers: what `apprise` makes of a URL. Needs the extra ``notify``."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Mapping
from typing import Any

from claf2.errors import ConfigError
from claf2.notifications.messages import Message
from claf2.notifications.pacing import DeliveryResult
from claf2.runtime.retry import parse_retry_after

__all__ = ["URLS_VARIABLE", "Receiver", "check_receivers", "read_urls"]

URLS_VARIABLE = "CLAF2_NOTIFY_URLS"
"""The environment variable with the URLs, separated by commas or white space."""
URLS_HINT = (
    f"set {URLS_VARIABLE} to one or more URLs of apprise, such as mmost://HOST/TOKEN or slack://A/B/C; "
    "the list is at https://github.com/caronc/apprise/wiki"
)

CONNECT_TIMEOUT, READ_TIMEOUT = 5.0, 30.0
"""Seconds. A receiver that answers late has accepted a message all the same, so it is worth waiting for."""
LONGEST_BODY, SHORTEST_BODY = 3500, 140
"""The bounds of the most characters of a message, whatever a service accepts."""


def read_urls(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the URLs of ``$CLAF2_NOTIFY_URLS``."""
    # A comma inside a URL, as between the addresses of a mail, is not followed by a scheme.
    text = environment.get(URLS_VARIABLE, "").strip()
    return [url for url in re.split(r"\s+|,(?=\s*[A-Za-z][\w+.-]*://)", text) if url.strip(",")]


def check_receivers() -> None:
    """Check that `apprise` is installed and there are URLs.

    Raises:
        ConfigError: if not.
    """
    if importlib.util.find_spec("apprise") is None:
        raise ConfigError("", "apprise is not installed", hint="pip install 'claf2[notify]'")
    if not read_urls():
        raise ConfigError(URLS_VARIABLE, "is not set, so there is no one to notify", hint=URLS_HINT)


class Receiver:
    """One URL.

    Args:
        url: a URL of `apprise`.
        number: its place in ``$CLAF2_NOTIFY_URLS``, from 1, by which messages name it. The URL is a secret.

    Raises:
        ConfigError: if `apprise` does not know what to do with it.
    """

    def __init__(self, url: str, number: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of what apprise imports
            import apprise

            _silence_apprise()
            asset = apprise.AppriseAsset(
                app_id="claf2", app_desc="claf2", app_url="", image_url_mask="", image_url_logo="", async_mode=False,
                secure_logging=True,
            )  # fmt: skip
            service = apprise.Apprise.instantiate(url, asset=asset)
        if service is None:
            scheme = url.partition("://")[0] if "://" in url else ""
            kind = f", which begins with {scheme[:20]}://," if re.fullmatch(r"[\w+.-]+", scheme) else ""
            raise ConfigError(URLS_VARIABLE, f"entry {number}{kind} is not a URL that apprise can use", hint=URLS_HINT)
        # Attributes of the instance: the pace is the notifier's, and its thread can wait.
        service.request_rate_per_sec = 0
        if "rto=" not in url:
            service.socket_read_timeout = READ_TIMEOUT
        if "cto=" not in url:
            service.socket_connect_timeout = CONNECT_TIMEOUT
        if "overflow=" not in url:
            service.overflow_mode = apprise.OverflowMode.SPLIT
        _observe_requests(service)
        self._service: Any = service
        self.name = f"{service.service_name} (entry {number})"
        self.limit = min(LONGEST_BODY, max(SHORTEST_BODY, service.body_maxlen - 200))
        """The most characters of a message."""

    def deliver(self, message: Message) -> DeliveryResult:
        """Send a message, and say what became of it."""
        import apprise

        kind = apprise.NotifyType.FAILURE if message.has_failure else apprise.NotifyType.INFO
        _last_answer.forget()
        try:
            is_accepted = bool(self._service.notify(body=message.body, title=message.title, notify_type=kind))
        except Exception:  # noqa: BLE001 a service with a bug must not end the thread
            is_accepted = False
        return DeliveryResult(is_accepted, _last_answer.status, _last_answer.retry_after, _last_answer.is_lost)


def _silence_apprise() -> None:
    """Keep the messages of `apprise` to itself: at level DEBUG they hold URLs. What failed is logged by claf2."""
    logger = logging.getLogger("apprise")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
        logger.propagate = False


class _LastAnswer(threading.local):
    """What came back from the latest request of a thread."""

    status: int | None = None
    retry_after: float | None = None
    is_lost = False

    def forget(self) -> None:
        """Forget an earlier request."""
        self.status, self.retry_after, self.is_lost = None, None, False


_last_answer = _LastAnswer()


class _ObservedRequests:
    """The module `requests` for the services of `apprise`, which say of an answer no more than whether it was good.

    Its status decides whether a message is sent again, and when. Requests themselves are unchanged.
    """

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        return _observe(value) if name in ("get", "post", "put", "patch", "delete", "request") else value


def _observe_requests(service: Any) -> None:
    """Observe the requests of a service. One without `requests`, such as mail, has no status."""
    module = sys.modules[type(service).__module__]
    requests = getattr(module, "requests", None)
    if requests is not None and not isinstance(requests, _ObservedRequests):
        module.requests = _ObservedRequests(requests)  # type: ignore[attr-defined]


def _observe(send: Any) -> Any:
    def observed(*args: Any, **kwargs: Any) -> Any:
        _last_answer.forget()
        try:
            response = send(*args, **kwargs)
        except Exception as error:
            # What was interrupted after the connection was made may have arrived.
            cause = error.args[0] if error.args else None
            lost = type(error).__name__ in ("ReadTimeout", "ChunkedEncodingError")
            _last_answer.is_lost = lost or type(cause).__name__ == "ProtocolError"
            raise
        _last_answer.status = int(response.status_code)
        _last_answer.retry_after = parse_retry_after(response.headers.get("Retry-After"))
        return response

    return observed
