"""Devices: one that this machine does not have is refused in one line."""

from __future__ import annotations

import pytest
import torch

from claf2.errors import ConfigError
from claf2.runtime.device import select_device


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Pretend that the machine has a number of GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("gpus", "name", "seen"),
    [
        (0, "cuda", "no"),
        (0, "cuda:0", "no"),
        (0, "cuda:9", "no"),
        (0, "mps", "no"),
        (2, "cuda:2", "2"),
        (1, "mps", "1"),
    ],
    indirect=["gpus"],
)
@pytest.mark.usefixtures("gpus")
def test_a_device_that_is_not_there(name: str, seen: str) -> None:
    message = (
        rf"^runtime.device: '{name}' is not a device of this machine, .* sees {seen} CUDA devices; use auto or cpu$"
    )
    with pytest.raises(ConfigError, match=message):
        select_device(name)


@pytest.mark.parametrize(
    ("gpus", "name", "device"),
    [(0, "auto", "cpu"), (0, "cpu", "cpu"), (1, "auto", "cuda:0"), (1, "cuda", "cuda"), (2, "cuda:1", "cuda:1")],
    indirect=["gpus"],
)
@pytest.mark.usefixtures("gpus")
def test_a_device_that_is_there(name: str, device: str) -> None:
    assert select_device(name) == torch.device(device)
