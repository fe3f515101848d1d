"""The documentation site: every module is in its reference, every page in its navigation, and no link is broken."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import claf2
from claf2.task import shipped_dir

ROOT = shipped_dir("tasks").parent

needs_mkdocs = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="MkDocs is not installed: pip install -e '.[docs]'"
)


def build(source: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site strictly."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(source / "mkdocs.yml")]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": path}
    return subprocess.run(
        [*command, "--site-dir", str(site)], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of this checkout."""
    folder = tmp_path_factory.mktemp("site")
    result = build(ROOT, folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def public_names() -> list[str]:
    """Return the dotted names of all modules that have something public, and of what they export."""
    names = []
    for name in ["claf2", *(module.name for module in pkgutil.walk_packages(claf2.__path__, "claf2."))]:
        module = importlib.import_module(name)
        if not name.startswith("claf2.cli"):  # described by the reference of the command line
            names += [f"{name}.{public}" for public in getattr(module, "__all__", ()) if not public.startswith("__")]
            names += [name] if name.count(".") > 1 else []
    return names


@pytest.mark.slow
@needs_mkdocs
def test_the_reference_has_every_module_and_every_exported_name(site: Path) -> None:
    pages = [path.read_text(encoding="utf-8") for path in (site / "reference").rglob("index.html")]
    anchors = {anchor for page in pages for anchor in re.findall(r'id="(claf2\.[\w.]+)"', page)}
    # What a package exports from one of its modules is described there.
    missing = [name for name in public_names() if name not in anchors and not described_elsewhere(name, anchors)]
    assert missing == []


def described_elsewhere(name: str, anchors: set[str]) -> bool:
    """Say whether an exported name is the name of an object that another module defines and the reference describes."""
    module, _, attribute = name.rpartition(".")
    exported = getattr(importlib.import_module(module), attribute, None)
    home = f"{getattr(exported, '__module__', '')}.{getattr(exported, '__qualname__', '')}"
    index = f"claf2.{attribute}" if getattr(claf2, attribute, None) is exported else ""
    return (home != name and home in anchors) or index in anchors


@pytest.mark.slow
@needs_mkdocs
def test_the_reference_has_every_command(site: Path) -> None:
    from claf2.cli.main import claf2 as commands

    text = (site / "reference/cli/index.html").read_text(encoding="utf-8")
    assert len(commands.commands) > 5
    assert [name for name in commands.commands if f"claf2 {name} [" not in text] == []


@pytest.mark.slow
@needs_mkdocs
def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    loaded = re.compile(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(?:https?:)?//[^"]*"')
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    assert [match for page in pages for match in loaded.findall(page.read_text(encoding="utf-8"))] == []


@pytest.mark.slow
@needs_mkdocs
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[x](missing.md)", "missing.md"),
        ("[x](index.md#missing)", "missing"),
        ("[x](../claf2/missing.py)", "missing.py"),
        ("::: claf2.missing", "claf2.missing"),
    ],
)
def test_broken_links_fail(text: str, problem: str, tmp_path: Path) -> None:
    write_small_site(tmp_path, {"index.md": f"# Start\n\n{text}\n"})
    result = build(tmp_path, tmp_path / "site")
    assert result.returncode != 0
    assert problem in result.stdout + result.stderr


@pytest.mark.slow
@needs_mkdocs
def test_links_to_files_of_the_repository_lead_to_copies(tmp_path: Path) -> None:
    text = "# Start\n\n[workflow](../ci/flow.yml), [policy](../SECURITY.md#here)\n\n```\n[x](../missing.py)\n```\n"
    write_small_site(tmp_path, {"index.md": text})
    (tmp_path / "ci").mkdir()
    (tmp_path / "ci/flow.yml").write_text("name: flow\n")
    result = build(tmp_path, tmp_path / "site")
    assert result.returncode == 0, result.stdout + result.stderr
    page = (tmp_path / "site/index.html").read_text()
    assert 'href="files/ci/flow.yml.txt"' in page
    assert 'href="security/#here"' in page
    assert (tmp_path / "site/files/ci/flow.yml.txt").read_text() == "name: flow\n"


@pytest.mark.slow
@needs_mkdocs
def test_a_page_outside_the_navigation_fails(tmp_path: Path) -> None:
    write_small_site(tmp_path, {"index.md": "# Start\n", "lost.md": "# Lost\n"})
    result = build(tmp_path, tmp_path / "site")
    assert result.returncode != 0
    assert "lost.md" in result.stdout + result.stderr


def write_small_site(root: Path, pages: dict[str, str]) -> None:
    """Write a repository with a few pages and this one's settings."""
    (root / "docs/stylesheets").mkdir(parents=True)
    (root / "docs/stylesheets/site.css").write_text("")
    for name, text in pages.items():
        (root / "docs" / name).write_text(text)
    for name in ("CHANGELOG.md", "CONTRIBUTING.md"):
        (root / name).write_text(f"# {name}\n")
    (root / "SECURITY.md").write_text("# Security\n\n## Here\n")
    (root / "scripts").mkdir()
    (root / "scripts/site_hooks.py").write_text((ROOT / "scripts/site_hooks.py").read_text())
    settings = (ROOT / "mkdocs.yml").read_text()
    navigation = "nav: [index.md, contributing.md, changelog.md, security.md]\n"
    settings = re.sub(r"^nav:\n(?: .*\n)+", navigation, settings, flags=re.MULTILINE)
    (root / "mkdocs.yml").write_text(settings.replace("paths: [.]", f"paths: ['{ROOT}']"))


def test_the_diagrams_are_what_the_script_draws() -> None:
    """After a change of the script: make pictures"""
    spec = importlib.util.spec_from_file_location("draw_pictures", ROOT / "scripts/draw_pictures.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules["draw_pictures"] = script
    spec.loader.exec_module(script)
    pictures = ROOT / "docs/pictures"
    assert (pictures / "data-flow.svg").read_text(encoding="utf-8") == script.data_flow()
    assert (pictures / "training-loop.svg").read_text(encoding="utf-8") == script.training_loop()
