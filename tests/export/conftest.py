"""A finished run and its export, which tests may read but not change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import claf2

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'claf2[onnx]'")


@pytest.fixture(scope="session")
def exported_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a small classifier."""
    folder = tmp_path_factory.mktemp("exported") / "run"
    claf2.train("scratch/nsmc", sample=True, log_dir=folder, num_steps=20)
    return folder


@pytest.fixture(scope="session")
def export(exported_run: Path) -> Path:
    """Its export."""
    from claf2.export.build import export_run

    folder = exported_run.parent / "export"
    export_run(exported_run, folder)
    return folder


@pytest.fixture
def copied(export: Path, tmp_path: Path) -> Callable[[], Path]:
    """Copy the export into a folder that a test may change."""

    def copy() -> Path:
        return Path(shutil.copytree(export, tmp_path / "copy", dirs_exist_ok=True))

    return copy
