"""The commands and the services of docs/serving.md."""

from __future__ import annotations

import importlib.util
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from claf2.task import shipped_dir

PAGE = shipped_dir("tasks").parent / "docs/serving.md"
CLAF2 = [sys.executable, "-c", "from claf2.cli.main import main; main()"]
ADDRESS = "http://127.0.0.1:8000"


@pytest.mark.slow
def test_commands(tmp_path: Path, start_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """In order: a server runs until the next one starts, and is reached at the address in the page."""
    monkeypatch.chdir(tmp_path)
    found = re.findall(r"^```([^\n]*)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    ((name, content),) = re.findall(
        r"`(my_\w+\.txt)`:\s+^```text\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    Path(name).write_text(content, encoding="utf-8")
    blocks = [block for language, block in found if not language]
    models, server = [], None
    for line in (line for block in blocks for line in block.splitlines()):
        url = server.url if server else ""
        program, *words = shlex.split(line.replace(ADDRESS, url))
        if program == "curl":
            models.append(send(words)["model"])
            continue
        assert program == "claf2", line
        if words[0] == "serve" and "--check" not in words:
            server = start_server(*words[1:])
            continue
        done = subprocess.run([*CLAF2, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}: {done.stderr}"
    assert models[:4] == ["nsmc", "korquad", "nlu", "nlu"]
    assert models[4:] in (["old"], ["new"])


def send(words: list[str]) -> dict[str, Any]:
    """Do what curl does with these options, and return the answer."""
    url, options = words[0], dict(zip(words[1::2], words[2::2], strict=True))
    assert options.keys() <= {"-d", "-H"}
    headers = dict([options["-H"].split(": ")]) if "-H" in options else {}
    response = httpx.post(url, content=options["-d"], headers=headers)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def load_example(name: str, folder: Path) -> ModuleType:
    """Import a file that the page shows."""
    pattern = re.compile(r"`(my_\w+\.py)`:\s+^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
    blocks = dict(pattern.findall(PAGE.read_text(encoding="utf-8")))
    path = folder / name
    path.write_text(blocks[name], encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def stored_texts(run: Path) -> list[tuple[dict[str, Any], Any]]:
    """Return the first validation rows as requests, with what was predicted for them."""
    from claf2.serving.replay import stored_rows

    return [(dict(row.request), row.expected) for row in stored_rows(run)[:3]]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_service_for_ray_answers_what_was_scored(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = "Ray Serve is not installed: pip install 'ray[serve]'"
    serve: Any = pytest.importorskip("ray.serve", reason=missing, exc_type=ImportError)
    ray: Any = pytest.importorskip("ray", reason=missing)
    monkeypatch.setenv("MODEL", str(run))
    variables = {"PYTHONPATH": f"{PAGE.parents[1]}:{tmp_path}"}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": variables})
    try:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        serve.start(http_options={"port": port})
        serve.run(load_example("my_ray_service.py", tmp_path).app)
        for request, expected in stored_texts(run):
            answer = httpx.post(f"http://127.0.0.1:{port}/", json=request, timeout=120).json()
            assert answer["prediction"] == expected.prediction
            assert answer["score"] == pytest.approx(expected.score, abs=1e-6)
    finally:
        serve.shutdown()
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_service_for_bentoml_answers_what_was_scored(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bentoml", reason="BentoML is not installed: pip install bentoml")
    from starlette.testclient import TestClient

    monkeypatch.setenv("MODEL", str(run))
    service = load_example("my_bento_service.py", tmp_path).Sentiment
    with TestClient(service.to_asgi()) as client:
        for request, expected in stored_texts(run):
            first, second = client.post("/answer", json={"texts": [request["text_a"]] * 2}).json()
            assert first["prediction"] == second["prediction"] == expected.prediction
            assert first["score"] == pytest.approx(expected.score, abs=1e-6)
