"""Adds the repository's own files to the documentation site. MkDocs calls the ``on_...`` functions while it builds.

Pages in docs/ link to other files of the repository, such as a workflow to copy. These links work in a checkout, but a
site holds only docs/, so the hooks copy each linked file into the site. They also make pages of CHANGELOG.md,
CONTRIBUTING.md and SECURITY.md.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PROJECT_PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}
"""The files at the top of the repository that become pages, and the page of each."""

LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)[^)\s#]+")
"""The target of a relative Markdown link or image, without its anchor."""

FENCE = re.compile(r"(^```.*?^```\s*?$)", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the project's pages and a copy of every file outside docs/ that a page links to."""
    root = Path(config.config_file_path).parent
    for name, page in PROJECT_PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(root / name)))
    for file in list(files.documentation_pages()):
        for target in LINK.findall(FENCE.sub("", file.content_string)):
            path = repository_path(target, file.src_uri)
            is_outside = not path.startswith("docs/") and path not in PROJECT_PAGES
            if is_outside and (root / path).is_file() and files.get_file_from_path(copy_of(path)) is None:
                files.append(File.generated(config, copy_of(path), abs_src_path=str(root / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to files outside docs/ at their pages or copies. MkDocs reports those that have neither."""
    source = page.file.src_uri

    def resolve(match: re.Match[str]) -> str:
        path = repository_path(match[0], source)
        target = PROJECT_PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else copy_of(path))
        return posixpath.relpath(target, posixpath.dirname(source) or ".")

    return outside_fences(markdown, lambda text: LINK.sub(resolve, text))


def repository_path(target: str, page: str) -> str:
    """Return the path of a link's target in the repository.

    Args:
        target: the path that the link gives, relative to the file that holds it.
        page: the page's path in the site.
    """
    origins = {page: name for name, page in PROJECT_PAGES.items()}
    folder = posixpath.dirname(origins.get(page, f"docs/{page}"))
    return posixpath.normpath(posixpath.join(folder, target))


def copy_of(path: str) -> str:
    """Return where the site holds its copy of a file. Browsers show a `.txt` file instead of saving it."""
    return f"files/{path}.txt"


def outside_fences(markdown: str, change: Callable[[str], str]) -> str:
    """Return a page with ``change`` applied to everything but its fenced code blocks."""
    parts = FENCE.split(markdown)
    return "".join(part if index % 2 else change(part) for index, part in enumerate(parts))
