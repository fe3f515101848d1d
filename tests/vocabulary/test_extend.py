"""A larger vocabulary: old tokens stay, new rows are means of old pieces, and the stored model knows both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from click.testing import CliRunner
from language_models import byte_tokenizer, save_language_model
from safetensors.torch import load_file

from claf2.adapters.layers.stored import ADAPTED
from claf2.cli.main import claf2 as command
from claf2.errors import ModelError, RunError
from claf2.tokenizers.build import compose_tokenizer, load_tokenizer
from claf2.tokenizers.subword import BPE, ByteBPE
from claf2.tokenizers.word import ByteLevelWord, Whitespace
from claf2.vocabulary.extend import extend_model

KOREAN = ["리액트의 컴포넌트는 상태를 가진다. 상태를 바꾸면 컴포넌트를 다시 그린다."] * 20
OLD = "the film was good\na bad movie"


@pytest.fixture(scope="module")
def korean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("korean")
    compose_tokenizer(ByteLevelWord(), ByteBPE(vocab_size=500), lambda: KOREAN, 512).save(folder)
    return folder


@pytest.mark.parametrize("kind", ["gpt2", "llama"])  # tied and untied embeddings of the output
def test_new_rows_are_means_of_old_pieces(kind: str, korean: Path, tmp_path: Path) -> None:
    source = save_language_model(kind, tmp_path / "model")
    result = CliRunner().invoke(
        command,
        ["vocab", "extend", str(source), "--with", str(korean), "-o", str(tmp_path / "new")],
        catch_exceptions=False,
    )
    assert result.exit_code == 0, result.output
    old, new = load_tokenizer(source), load_tokenizer(tmp_path / "new")
    assert f"{old.vocab_size} -> {new.vocab_size} entries" in result.stdout
    assert new.vocab_size > old.vocab_size + 20
    before, after = (
        transformers.AutoModelForCausalLM.from_pretrained(path).eval() for path in (source, tmp_path / "new")
    )
    assert after.config.vocab_size == new.vocab_size
    added = set(range(old.vocab_size, new.vocab_size))
    ids = new.encode_flat(KOREAN[:1]).ids.tolist()
    used = added & set(ids)
    raw = transformers.AutoTokenizer.from_pretrained(tmp_path / "new")
    assert used
    for weights in ("get_input_embeddings", "get_output_embeddings"):
        first, second = (getattr(model, weights)().weight for model in (before, after))
        assert torch.equal(first, second[: old.vocab_size])
        for token in used:
            text = raw.decode([token])  # with the space in front of a word
            if "\ufffd" in text:
                continue  # a part of a character
            pieces = old.encode_flat([text]).ids.tolist()
            assert len(pieces) > 1
            assert torch.allclose(second[token], first[pieces].mean(0), atol=1e-7)
    assert new.encode_flat([OLD]).ids.tolist() == old.encode_flat([OLD]).ids.tolist()
    assert len(ids) < len(old.encode_flat(KOREAN[:1]).ids) / 2
    assert new.decode(ids) == KOREAN[0]
    with torch.no_grad():
        text = torch.tensor([old.encode_flat([OLD]).ids.tolist()])
        logits = [model(text).logits[..., : old.vocab_size] for model in (before, after)]
    assert (logits[0] - logits[1]).abs().max() < 1e-5


def test_the_size_is_a_limit_and_mistakes_are_named(korean: Path, tmp_path: Path) -> None:
    source = save_language_model("llama", tmp_path / "model")
    size = byte_tokenizer().vocab_size + 7
    assert extend_model(str(source), str(korean), tmp_path / "small", size=size).entries == size
    assert load_tokenizer(tmp_path / "small").vocab_size == size
    with pytest.raises(RunError, match="exists; choose another folder"):
        extend_model(str(source), str(korean), tmp_path / "small")
    with pytest.raises(RunError, match="nothing to add"):
        extend_model(str(source), str(source), tmp_path / "same")
    with pytest.raises(RunError, match=f"--size 9: .* has {size - 7} entries already; give a larger size"):
        extend_model(str(source), str(korean), tmp_path / "none", size=9)
    (source / ADAPTED).touch()
    with pytest.raises(ModelError, match="need the adapter that they were trained with; extend a plain model"):
        extend_model(str(source), str(korean), tmp_path / "none")
    (source / ADAPTED).unlink()
    compose_tokenizer(Whitespace(), BPE(vocab_size=300), lambda: KOREAN, 512).save(tmp_path / "other")
    with pytest.raises(ModelError, match="writes spaces or bytes differently"):
        extend_model(str(source), str(tmp_path / "other"), tmp_path / "none")


def test_a_model_of_half_precision_stays_one(korean: Path, tmp_path: Path) -> None:
    source = save_language_model("llama", tmp_path / "model")
    transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16).save_pretrained(source)
    before = load_file(source / "model.safetensors")
    first, size = load_tokenizer(source).vocab_size, load_tokenizer(source).vocab_size + 3
    extend_model(str(source), str(korean), tmp_path / "new", size=size)
    after = load_file(tmp_path / "new/model.safetensors")
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    assert all(torch.equal(tensor, after[name][: len(tensor)]) for name, tensor in before.items())
    assert len(after["model.embed_tokens.weight"]) == size
    assert after["model.embed_tokens.weight"][first:].any()
