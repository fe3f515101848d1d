"""Approximate search: it finds nearly what an exact one finds, with the same scores."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from claf2.cli.main import main
from claf2.errors import Claf2Error
from claf2.retrieval import index as index_module
from claf2.retrieval.index import IndexSettings, PassageIndex, build_index
from claf2.retrieval.neighbors import Neighbors, build_neighbors
from claf2.retrieval.passages import Passage

pytest.importorskip("faiss", reason="approximate search needs FAISS: pip install 'claf2[faiss]'")

WORDS = "the king lives in north queen south dog cat river city film great poor born house".split()


def passages(count: int) -> list[Passage]:
    dice = np.random.default_rng(1)
    return [Passage(text) for text in dict.fromkeys(" ".join(dice.choice(WORDS, 6)) for _ in range(count))]


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return scaled


def test_nearly_all_of_the_nearest_are_found(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    centers = dice.standard_normal((300, 32))
    vectors = unit(centers[dice.integers(0, 300, 20_000)] + 0.7 * dice.standard_normal((20_000, 32)))
    build_neighbors(tmp_path, vectors)
    neighbors = Neighbors(tmp_path)
    assert len(neighbors) == 20_000
    found, read = 0, 0
    for vector in unit(vectors[:100] + 0.05 * dice.standard_normal((100, 32))):
        nearest = np.argsort(-(vectors @ vector))[:10]
        candidates = neighbors.find(vector, 100)
        assert (np.diff(candidates) > 0).all()
        found += len(set(nearest.tolist()) & set(candidates.tolist()))
        read += len(candidates)
    assert read <= 10_000
    assert found >= 980


def test_with_candidates_the_scores_are_those_of_an_exact_search(
    tmp_path: Path, model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "CANDIDATES", 20)
    texts = passages(400)
    settings = IndexSettings(encoder=str(model_folder()))
    exact = build_index(tmp_path / "exact", texts, settings)
    near = build_index(tmp_path / "near", texts[:100], IndexSettings(encoder=str(model_folder()), approximate=True))
    near = build_index(near.folder, texts, IndexSettings(), add=True)
    assert near.settings.approximate
    for method in ("dense", "hybrid"):
        expected = dict(exact.find_places(["the king lives"], 400, method)[0])  # type: ignore[arg-type]
        best = near.find_places(["the king lives"], 5, method)[0]  # type: ignore[arg-type]
        assert len(best) == 5
        for place, score in best:
            assert score == pytest.approx(expected[place], abs=1e-5)
        assert len(near.find_places(["the king lives"], 400, "hybrid")[0]) >= 380
    near.check()


def test_damage_and_wrong_options_name_the_way_out(
    tmp_path: Path,
    model_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = tmp_path / "texts.txt"
    text.write_text("\n\n".join(passage.text for passage in passages(80)))
    words = ["index", str(text), "-o", str(tmp_path / "index")]
    with pytest.raises(SystemExit):
        main([*words, "--approximate"])
    assert "--approximate: is for an encoder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words, "--encoder", str(model_folder()), "--approximate"])
    file = tmp_path / "index" / "neighbors.faiss"
    content = file.read_bytes()
    for damaged in (b"", b"x" * len(content), content[:40]):
        file.write_bytes(damaged)
        with pytest.raises(Claf2Error, match=r"the index is damaged \(.*\); make it again"):
            PassageIndex(tmp_path / "index")
    file.write_bytes(content)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(Claf2Error, match=r"pip install 'claf2\[faiss\]'"):
        PassageIndex(tmp_path / "index")
    with pytest.raises(Claf2Error, match=r"pip install 'claf2\[faiss\]'"):
        build_index(tmp_path / "other", passages(5), IndexSettings(encoder="missing", approximate=True))
