"""Graphs with 8-bit integers: near the fp32 graph, smaller, the same bytes each time, and as exact as they claim."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from claf2.errors import RunError
from claf2.export.build import _open_source
from claf2.export.folder import ExportFolder
from claf2.export.onnx_engine import OnnxEngine
from claf2.export.parity import observed_batching
from claf2.export.processor import has_integer_products, processor_flags
from claf2.export.quantize import QUANTIZATIONS, Quantization, quantize_graph
from claf2.export.rows import ModelRows


@pytest.fixture(scope="module")
def rows(exported_run: Path) -> ModelRows:
    """Validation rows of the run, of many lengths."""
    source = _open_source(exported_run, None)
    return ModelRows.read(source.run, source.model, "valid", 24)


@pytest.fixture(scope="module", params=sorted(QUANTIZATIONS))
def quantized(
    request: pytest.FixtureRequest, export: Path, rows: ModelRows, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Quantization, Path]:
    """Each kind of quantization, and its graph."""
    target = tmp_path_factory.mktemp(request.param) / "model.onnx"
    quantize_graph(export / "model.onnx", target, request.param, rows.single_passes)
    return request.param, target


def test_a_quantized_graph_is_near_and_smaller(
    quantized: tuple[Quantization, Path], export: Path, rows: ModelRows
) -> None:
    kind, graph = quantized
    batch = rows.arguments(np.arange(len(rows)))
    exact, near = (OnnxEngine(path, "exact")("nsmc", batch).logits for path in (export / "model.onnx", graph))
    assert 0 < (exact - near).abs().max() < 0.5
    assert (exact.argmax(-1) == near.argmax(-1)).float().mean() > 0.8
    share = graph.stat().st_size / (export / "model.onnx").stat().st_size
    assert share < {"dynamic": 0.3, "blocks": 0.6, "blocks-4bit": 0.5, "static": 0.6}[kind]


def test_quantizing_again_gives_the_same_bytes(
    quantized: tuple[Quantization, Path], export: Path, rows: ModelRows, tmp_path: Path
) -> None:
    kind, graph = quantized
    quantize_graph(export / "model.onnx", tmp_path / "again.onnx", kind, rows.single_passes)
    assert (tmp_path / "again.onnx").read_bytes() == graph.read_bytes()


def test_only_dynamic_ranges_depend_on_the_rows_beside(quantized: tuple[Quantization, Path], rows: ModelRows) -> None:
    kind, graph = quantized
    expected = "close" if kind == "dynamic" else "exact"
    assert observed_batching(OnnxEngine(graph, "exact"), rows) == expected


def test_static_ranges_come_from_the_rows(export: Path, rows: ModelRows, tmp_path: Path) -> None:
    def narrow() -> Iterator[dict[str, np.ndarray]]:
        yield next(rows.single_passes())

    for name, passes in (("all", rows.single_passes), ("one", narrow)):
        quantize_graph(export / "model.onnx", tmp_path / f"{name}.onnx", "static", passes)
    assert (tmp_path / "all.onnx").read_bytes() != (tmp_path / "one.onnx").read_bytes()


def test_processors_that_overflow_are_refused(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_integer_products(("x86_64", "avx2", "avx_vnni"))
    assert has_integer_products(("aarch64", "asimddp"))
    assert not has_integer_products(("x86_64", "avx2", "avx512f"))
    folder = ExportFolder(export)
    folder.record = folder.record.model_copy(update={"weights": "int8-static"})
    monkeypatch.setattr("claf2.export.quantize.processor_flags", lambda: ("x86_64", "avx2"))
    with pytest.raises(RunError, match="overflows: it has neither AVX-VNNI nor AVX-512 VNNI; export without --int8"):
        folder._check_unchanged("")


def test_flags_are_read_from_the_kernel(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512_vnni sse\n")
    assert processor_flags(info)[1:] == ("avx2", "avx512_vnni")
    info.write_text("processor\t: 0\nFeatures\t: fp asimddp\n")
    assert processor_flags(info)[1:] == ("asimddp",)
    assert processor_flags(tmp_path / "missing")[1:] == ()


def test_an_engine_that_computes_rows_alone_gets_them_alone(export: Path, rows: ModelRows) -> None:
    from claf2.evaluation.evaluate import forward_batches

    sizes: list[int] = []
    engine = OnnxEngine(export / "model.onnx", "single", on_rows=sizes.append)
    results = list(forward_batches(engine, "nsmc", rows.dataset, 8))
    assert sizes == [1] * len(rows)
    assert sorted(int(result.rows[0]) for result in results) == list(range(len(rows)))
    # Nothing is padded: padding would be in the range of the activations.
    assert all(torch.all(result.tensors["attention_mask"] == 1) for result in results)
