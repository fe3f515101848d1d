"""Secrets are masked before a text is stored or sent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

__all__ = ["MASK", "Redactor"]

MASK = "***"
"""What stands in the place of a secret."""

SHORTEST_SECRET = 8
"""The least characters of a secret. Shorter texts, such as `user` or `8080`, occur in other places as well."""
SHORTEST_PASSWORD = 4
"""The least characters of a password in a URL."""

SECRET_VARIABLE = re.compile(r"TOKEN|SECRET|PASSW(OR)?D|API_?KEY|ACCESS_?KEY|CREDENTIAL|NOTIFY_URL", re.IGNORECASE)
"""The names of environment variables whose values are secrets."""

PATTERNS = (
    (re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"), MASK),  # user and password of a URL
    (re.compile(r"(hooks\.slack(?:-gov)?\.com/\w+/)\S+"), rf"\1{MASK}"),
    (re.compile(r"(discord(?:app)?\.com/api/webhooks/)\S+"), rf"\1{MASK}"),
    (re.compile(r"\b(?:xox[a-z]-|xapp-|hf_|gh[oprsu]_|github_pat_|glpat-|sk-|wandb_v\d_)[\w-]{8,}"), MASK),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), MASK),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/-]{8,}=*"), rf"\1 {MASK}"),
    (re.compile(r"(?i)([\w-]*(?:signature|credential|token|secret|password|api_?key)[\w-]*[\"']?\s*[=:]\s*[\"']?)"
                r"[^\s&\"',;]{4,}"), rf"\1{MASK}"),
)  # fmt: skip
"""What a secret looks like that is not known."""


class Redactor:
    """Masks the secrets of receivers and of the environment, and what looks like one.

    Args:
        urls: the URLs of receivers. Any part of them that may be a secret is masked.
        environment: environment variables. The values of those with a name such as `HF_TOKEN` are masked.
    """

    def __init__(self, urls: Iterable[str] = (), environment: Mapping[str, str] | None = None) -> None:
        secrets = {part for url in urls for part in _secret_parts(url)}
        for name, value in (environment or {}).items():
            if SECRET_VARIABLE.search(name) and len(value.strip()) >= SHORTEST_SECRET:
                secrets.add(value.strip())
        # The longest first, since one may contain another.
        ordered = sorted(secrets, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        """Return a text without its secrets."""
        if self._secrets is not None:
            text = self._secrets.sub(MASK, text)
        for pattern, replacement in PATTERNS:
            text = pattern.sub(replacement, text)
        return text


def _secret_parts(url: str) -> set[str]:
    """Return a URL, and the parts of it that may be secrets: `apprise` has tokens in any part, the host included."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:  # brackets that are no IPv6 address
        return {url}
    segments = [*parts.path.split("/"), *(value for _, value in parse_qsl(parts.query)), parts.username or ""]
    if "." not in host and ":" not in host and host != "localhost":
        segments.append(host)
    found = {form for segment in segments for form in (segment, unquote(segment)) if len(form) >= SHORTEST_SECRET}
    password = parts.password or ""
    found |= {form for form in (password, unquote(password)) if len(form) >= SHORTEST_PASSWORD}
    return {url, *found}
