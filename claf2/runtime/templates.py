"""Templates of HTML pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["page_environment"]


def page_environment(folders: Sequence[Path], **settings: Any) -> Environment:
    """Return what fills the templates in some folders. It escapes every value, and refuses names without one.

    Args:
        folders: where templates are looked for, in order.
        settings: further settings of the environment.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(folders), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, **settings,
    )  # fmt: skip
