"""Folders of sentence encoders: `sentence-transformers` opens what claf2 writes, and claf2 what it has written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import claf2
from claf2.errors import ModelError
from claf2.models.sentence_modules import SentenceModules, read_sentence_modules
from claf2.retrieval.encoders import EncoderFolder
from claf2.retrieval.index import IndexSettings, build_index
from claf2.retrieval.passages import Passage

TEXTS = ["영화 훌륭하다", "배우 연기 참 좋다.", "the king " * 40, "서울"]


def open_sentence_transformer(folder: Path) -> Any:
    library = pytest.importorskip(
        "sentence_transformers", reason="sentence-transformers is not installed: pip install 'claf2[sentence]'"
    )
    return library.SentenceTransformer(str(folder), device="cpu")


@pytest.fixture(scope="module")
def tsdae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a sentence encoder."""
    folder = tmp_path_factory.mktemp("tsdae") / "run"
    phases = [{"until": 2, "batch_size": 8, "max_seq_length": 24}]
    claf2.train(
        "scratch/tsdae", sample=True, log_dir=folder,
        argv=["--trainer.pretrain.phases", json.dumps(phases), "--keep_step_count", "1"],
    )  # fmt: skip
    return folder


@pytest.fixture
def encoder_folder(model_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy of a small encoder without modules."""
    return Path(shutil.copytree(model_folder(), tmp_path / "encoder"))


def width_of(folder: Path) -> int:
    return int(json.loads((folder / "config.json").read_text())["hidden_size"])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_both_make_the_same_vectors(encoder_folder: Path, pooling: Any) -> None:
    """Texts that are too long are cut to the same length."""
    SentenceModules(pooling, 12).write(encoder_folder, width_of(encoder_folder))
    model = open_sentence_transformer(encoder_folder)
    assert model.max_seq_length == 12
    expected = model.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(EncoderFolder(encoder_folder).encode(TEXTS), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["best", "steps/step-000000001", "steps/step-000000002"])
def test_the_folders_of_a_run_open_as_sentence_encoders(tsdae: Path, name: str) -> None:
    assert read_sentence_modules(tsdae / name) == SentenceModules("cls", 24)
    model = open_sentence_transformer(tsdae / name)
    expected = model.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(EncoderFolder(tsdae / name).encode(TEXTS), expected, atol=1e-6)
    assert model.similarity(expected[:1], expected[:1]).item() == pytest.approx(1.0)


@pytest.mark.filterwarnings("ignore")
def test_a_folder_that_the_library_has_written_is_read(encoder_folder: Path, tmp_path: Path) -> None:
    SentenceModules("max", 10).write(encoder_folder, width_of(encoder_folder))
    model = open_sentence_transformer(encoder_folder)
    model.save(str(tmp_path / "theirs"))
    modules = read_sentence_modules(tmp_path / "theirs")
    assert modules is not None
    assert modules.pooling == "max"
    expected = model.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(EncoderFolder(tmp_path / "theirs").encode(TEXTS), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_the_longest_text_may_be_that_of_the_tokenizer(encoder_folder: Path, tmp_path: Path) -> None:
    """Version 6 of the library saves no other."""
    path = encoder_folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": 14}))
    theirs = tmp_path / "theirs"
    model = open_sentence_transformer(encoder_folder)
    assert model.max_seq_length == 14
    model.save(str(theirs))
    settings = theirs / "sentence_bert_config.json"
    settings.write_text(json.dumps({"transformer_task": "feature-extraction"}))  # as version 6 does, whichever is here
    modules = read_sentence_modules(theirs)
    assert modules is not None
    assert modules.max_length is None
    expected = model.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(EncoderFolder(theirs).encode(TEXTS), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_the_default_prompt_is_the_prefix_of_an_index(encoder_folder: Path, tmp_path: Path) -> None:
    modules = SentenceModules("mean", 24, prompt="film: ")
    modules.write(encoder_folder, width_of(encoder_folder))
    assert read_sentence_modules(encoder_folder) == modules
    settings = IndexSettings("words", encoder=str(encoder_folder))
    made = build_index(tmp_path / "index", map(Passage, TEXTS), settings)
    assert (made.settings.query_prefix, made.settings.passage_prefix) == ("film: ", "film: ")
    expected = open_sentence_transformer(encoder_folder).encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(made.vectors, expected, atol=1e-6)


@pytest.mark.parametrize(("prompts", "include", "reason"), [
    ({"query": "q: "}, False, "its pooling leaves out its default prompt.*set default_prompt_name to null"),
    ({"passage": "p: "}, True, "has no prompt 'query', which default_prompt_name names; add it to prompts"),
    (None, True, "has no prompt 'query'"),
])  # fmt: skip
def test_default_prompts_that_cannot_be_used_are_refused(
    tmp_path: Path, prompts: Any, include: bool, reason: str
) -> None:
    SentenceModules("mean").write(tmp_path, 4)
    (tmp_path / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode": "mean", "include_prompt": include}))
    config = tmp_path / "config_sentence_transformers.json"
    config.write_text(json.dumps({"prompts": prompts, "default_prompt_name": "query"}))
    with pytest.raises(ModelError, match=reason):
        read_sentence_modules(tmp_path)
    config.write_text(json.dumps({"prompts": prompts, "default_prompt_name": None}))
    assert read_sentence_modules(tmp_path) == SentenceModules("mean")


def test_other_folders_have_the_mean_and_the_digest_that_they_had(encoder_folder: Path) -> None:
    from claf2.models.source import weights_digest

    plain = EncoderFolder(encoder_folder)
    assert plain.digest == weights_digest(encoder_folder)
    SentenceModules("mean").write(encoder_folder, width_of(encoder_folder))
    mean = EncoderFolder(encoder_folder)
    np.testing.assert_array_equal(mean.encode(TEXTS), plain.encode(TEXTS))
    SentenceModules("cls").write(encoder_folder, width_of(encoder_folder))
    cls = EncoderFolder(encoder_folder)
    assert not np.allclose(cls.encode(TEXTS), plain.encode(TEXTS), atol=1e-3)
    assert len({plain.digest, mean.digest, cls.digest}) == 3


def test_forms_of_the_library(tmp_path: Path) -> None:
    assert read_sentence_modules(tmp_path) is None
    SentenceModules("mean", 7).write(tmp_path, 4)
    config = tmp_path / "1_Pooling/config.json"
    assert read_sentence_modules(tmp_path) == SentenceModules("mean", 7)
    config.write_text(json.dumps({"embedding_dimension": 4, "pooling_mode": "cls", "include_prompt": True}))
    assert read_sentence_modules(tmp_path) == SentenceModules("cls", 7)
    config.write_text(json.dumps({"pooling_mode": ["cls"]}))
    assert read_sentence_modules(tmp_path) == SentenceModules("cls", 7)


@pytest.mark.parametrize(("config", "reason"), [
    ({"pooling_mode": "weightedmean"}, "its pooling is weightedmean"),
    ({"pooling_mode": ["cls", "mean"]}, "its pooling is cls and mean"),
    ({"pooling_mode_cls_token": True, "pooling_mode_lasttoken": True}, "its pooling is cls and lasttoken"),
    ({"include_prompt": True}, "its pooling is unknown"),
])  # fmt: skip
def test_what_cannot_be_computed_is_refused(tmp_path: Path, config: dict[str, Any], reason: str) -> None:
    SentenceModules("mean").write(tmp_path, 4)
    (tmp_path / "1_Pooling/config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=reason):
        read_sentence_modules(tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="a module Dense, which claf2 cannot compute"):
        read_sentence_modules(tmp_path)


def test_a_run_as_an_encoder_and_its_best_folder_agree(tsdae: Path) -> None:
    from claf2.retrieval.encoders import open_encoder

    np.testing.assert_allclose(open_encoder(tsdae).encode(TEXTS), open_encoder(tsdae / "best").encode(TEXTS), atol=1e-6)


@pytest.mark.parametrize(("name", "content", "reason"), [
    ("1_Pooling/config.json", None, "1_Pooling/config.json: missing or damaged"),
    ("1_Pooling/config.json", "[1]", "expected a dict"),
    ("sentence_bert_config.json", "{", "sentence_bert_config.json: missing or damaged"),
    ("sentence_bert_config.json", '{"max_seq_length": "12"}', "is '12'; write a whole number"),
    ("sentence_bert_config.json", '{"max_seq_length": -3}', "is -3; write a whole number"),
    ("sentence_bert_config.json", '{"max_seq_length": 0}', "is 0; write a whole number"),
    ("modules.json", "null", "expected a list"),
    ("modules.json", "[]", "names no encoder in the folder itself"),
    ("modules.json", '[{"type": "models.Transformer", "path": "0_BERT"}]', "names no encoder in the folder itself"),
    ("modules.json", '[{"type": "models.Transformer"}]', "modules.json is damaged: 'path'"),
])  # fmt: skip
def test_damaged_files_are_named(tmp_path: Path, name: str, content: str | None, reason: str) -> None:
    SentenceModules("mean").write(tmp_path, 4)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ModelError, match=reason):
        read_sentence_modules(tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_texts_in_lower_case(encoder_folder: Path) -> None:
    SentenceModules("mean", 12, lower_case=True).write(encoder_folder, width_of(encoder_folder))
    encoder = EncoderFolder(encoder_folder)
    vectors = encoder.encode(["The KING", "the king"])
    np.testing.assert_array_equal(vectors[0], vectors[1])
    SentenceModules("mean", 12).write(encoder_folder, width_of(encoder_folder))
    plain = EncoderFolder(encoder_folder)
    assert not np.allclose(plain.encode(["The KING"]), vectors[:1], atol=1e-3)
    assert encoder.digest != plain.digest
    SentenceModules("mean", 12, lower_case=True).write(encoder_folder, width_of(encoder_folder))
    expected = open_sentence_transformer(encoder_folder).encode(["The KING"], normalize_embeddings=True)
    np.testing.assert_allclose(vectors[:1], expected, atol=1e-6)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_tokenizer_that_pads_on_the_left_gives_the_same_vectors(encoder_folder: Path, pooling: Any) -> None:
    SentenceModules(pooling).write(encoder_folder, width_of(encoder_folder))
    expected = EncoderFolder(encoder_folder).encode(TEXTS)
    path = encoder_folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "padding_side": "left"}))
    np.testing.assert_array_equal(EncoderFolder(encoder_folder).encode(TEXTS), expected)


def test_an_encoder_without_some_of_its_weights_is_refused(encoder_folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = encoder_folder / "model.safetensors"
    weights = load_file(path)
    save_file({name: weight for name, weight in weights.items() if "layer.0.output.dense" not in name}, path,
              {"format": "pt"})  # fmt: skip
    with pytest.raises(ModelError, match=r"2 of its weights are missing, e.g. "):
        EncoderFolder(encoder_folder)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"it cannot be loaded: model.safetensors is incomplete"):
        EncoderFolder(encoder_folder)


def test_what_is_trained_from_a_sentence_encoder_need_not_be_one(tsdae: Path, tmp_path: Path) -> None:
    """The head of a classifier makes no vector, so its run and its `best/` have the mean, though the sentence encoder
    that it began with has the first token."""
    from claf2.retrieval.encoders import open_encoder

    run = tmp_path / "run"
    claf2.train(
        "scratch/nsmc", sample=True, log_dir=run, pretrained_model_name=str(tsdae / "best"),
        argv=["--token", "null", "--num_steps", "2"],
    )  # fmt: skip
    best, whole = (open_encoder(folder).encode([TEXTS[0], TEXTS[3]]) for folder in (run / "best", run))
    np.testing.assert_allclose(best, whole, atol=1e-6)
