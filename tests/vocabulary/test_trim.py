"""Trimmed models: the same tokens and the same outputs wherever the entries were kept, for every kind of vocabulary."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from generated import make_sentences, write_documents

from claf2.cli.main import main
from claf2.corpus.sources import TextSource
from claf2.errors import ModelError, RunError
from claf2.tokenizers import subword_tokenizers, word_tokenizers
from claf2.tokenizers.build import compose_tokenizer, load_tokenizer
from claf2.vocabulary.tokenizer_file import complete_entries, trim_tokenizer_file, vocabulary_of
from claf2.vocabulary.trim import RECORD_NAME, trim_model

ENGLISH = [f"the quick brown fox number {number} jumps over lazy dogs and cats" for number in range(300)]


def plain_sentences(count: int, seed: int = 0) -> list[str]:
    """Return generated sentences without numbers, so that new ones have no new words."""
    return [sentence.rsplit(" ", 2)[0] for sentence in make_sentences(count, seed)]


def make_backend(kind: str) -> Any:
    """Return a trained backend of `tokenizers` for two languages, with the special tokens in its vocabulary."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    options: dict[str, Any] = {"vocab_size": 400, "special_tokens": specials, "show_progress": False}
    if kind == "unigram":
        backend = Tokenizer(models.Unigram())
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
        trainer: Any = trainers.UnigramTrainer(unk_token="<unk>", **options)
    elif kind == "wordpiece":
        backend = Tokenizer(models.WordPiece(unk_token="<unk>"))
        backend.normalizer = normalizers.BertNormalizer(strip_accents=False)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(**options)
    elif kind == "byte_bpe":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **options | {"vocab_size": 600}
        )
    else:
        backend = Tokenizer(models.BPE(unk_token="<unk>"))
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.BpeTrainer(**options)
    backend.train_from_iterator([*make_sentences(300), *ENGLISH], trainer)
    backend.add_special_tokens(["<mask>"])
    backend.post_processor = (
        processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
        if kind == "byte_bpe"
        else processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> $B </s>", [("<s>", 0), ("</s>", 2)])
    )
    return backend


def make_model(kind: str, folder: Path, *, prediction_head: bool = False) -> Path:
    """Write a small model whose vocabulary is of a kind, with a few rows of embeddings to spare."""
    from transformers import BertConfig, BertForMaskedLM, BertModel, PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=make_backend(kind), bos_token="<s>", cls_token="<s>", eos_token="</s>", sep_token="</s>",
        pad_token="<pad>", unk_token="<unk>", mask_token="<mask>",
    )  # fmt: skip
    wrapped.save_pretrained(folder)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(wrapped) + 7, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, pad_token_id=1, bos_token_id=0, eos_token_id=2,
        mask_token_id=wrapped.mask_token_id,
    )  # fmt: skip
    (BertForMaskedLM if prediction_head else BertModel)(config).save_pretrained(folder)
    return folder


def outputs(folder: Path, texts: Sequence[str], head: bool = False) -> list[torch.Tensor]:
    from transformers import AutoModel, AutoModelForMaskedLM

    model = (AutoModelForMaskedLM if head else AutoModel).from_pretrained(folder).eval()
    tokenizer = load_tokenizer(folder)
    with torch.inference_mode():
        return [
            model(input_ids=torch.tensor([encoding.ids]))[0]
            for ((encoding,),) in ([e] for e in tokenizer.encode(texts, max_length=60))
        ]


@pytest.mark.parametrize("kind", ["unigram", "wordpiece", "bpe", "byte_bpe"])
def test_tokens_and_outputs_stay(kind: str, tmp_path: Path) -> None:
    original = make_model(kind, tmp_path / "model")
    write_documents(tmp_path / "ko.jsonl", plain_sentences(300))
    result = trim_model(str(original), [TextSource(path="ko.jsonl")], tmp_path / "small", data_dir=tmp_path)
    assert result.entries < result.entries_before - 10
    assert result.equal_texts == result.compared_texts > 5
    assert result.largest_difference == 0
    before, after = load_tokenizer(original), load_tokenizer(tmp_path / "small")
    texts = plain_sentences(100, seed=5)
    assert [after.tokenize(text) for text in texts] == [before.tokenize(text) for text in texts]
    assert all(map(torch.equal, outputs(original, texts), outputs(tmp_path / "small", texts)))
    config = json.loads((tmp_path / "small/config.json").read_text())
    assert config["vocab_size"] == after.vocab_size == result.entries
    assert (config["pad_token_id"], config["bos_token_id"], config["eos_token_id"]) == (1, 0, 2)
    assert config["mask_token_id"] == after.entries["<mask>"] < before.entries["<mask>"]
    assert result.parameters_before - result.parameters == 32 * (result.entries_before + 7 - result.entries)
    record = json.loads((tmp_path / "small" / RECORD_NAME).read_text())
    assert len(record["kept_ids"]) == result.entries


def test_pairs_and_special_tokens_keep_their_places(tmp_path: Path) -> None:
    original = make_model("unigram", tmp_path / "model")
    write_documents(tmp_path / "ko.jsonl", plain_sentences(300))
    trim_model(str(original), [TextSource(path="ko.jsonl")], tmp_path / "small", data_dir=tmp_path)
    before, after = load_tokenizer(original), load_tokenizer(tmp_path / "small")
    old, new = ({number: entry for entry, number in side.entries.items()} for side in (before, after))
    ((first,),), ((second,),) = (
        side.encode(["학교에서 <mask> 간다"], ["학생이"], max_length=50) for side in (before, after)
    )
    assert [old[number] for number in first.ids] == [new[number] for number in second.ids]
    assert after.pad_id == 1
    assert after.unknown_id == 3
    assert after.entries["<mask>"] == after.vocab_size - 1


def test_predictions_of_masked_tokens_are_those_of_the_kept_entries(tmp_path: Path) -> None:
    original = make_model("wordpiece", tmp_path / "model", prediction_head=True)
    write_documents(tmp_path / "ko.jsonl", plain_sentences(300))
    trim_model(str(original), [TextSource(path="ko.jsonl")], tmp_path / "small", data_dir=tmp_path)
    kept = json.loads((tmp_path / "small" / RECORD_NAME).read_text())["kept_ids"]
    texts = plain_sentences(5)
    for old, new in zip(outputs(original, texts, True), outputs(tmp_path / "small", texts, True), strict=True):
        assert torch.allclose(old[..., kept], new, atol=1e-6)


def test_weights_of_pytorch_with_a_tied_head(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    original = make_model("wordpiece", tmp_path / "model", prediction_head=True)
    weights = load_file(original / "model.safetensors")
    rows = weights["bert.embeddings.word_embeddings.weight"]
    torch.save(weights | {"cls.predictions.decoder.weight": rows}, original / "pytorch_model.bin")
    (original / "model.safetensors").unlink()
    write_documents(tmp_path / "ko.jsonl", plain_sentences(300))
    result = trim_model(str(original), [TextSource(path="ko.jsonl")], tmp_path / "small", data_dir=tmp_path)
    trimmed = load_file(tmp_path / "small/model.safetensors")
    assert trimmed["cls.predictions.decoder.weight"].shape == (result.entries, 32)
    assert trimmed["cls.predictions.bias"].shape == (result.entries,)
    assert result.largest_difference == 0


def test_what_bpe_builds_entries_from_is_kept() -> None:
    state = json.loads(make_backend("bpe").to_str())
    vocabulary = vocabulary_of(state)
    longest = max((entry for entry in vocabulary if entry.startswith("▁학")), key=len)
    kept = complete_entries(state, [longest], "")
    parts = {left + right: (left, right) for left, right in state["model"]["merges"]}
    pending = [longest]
    while pending:
        entry = pending.pop()
        assert entry in kept
        pending += parts.get(entry, ())
    assert not any(entry.startswith("▁qu") for entry in kept)


def test_the_entry_that_scores_unknown_characters_is_kept() -> None:
    model = {
        "type": "Unigram",
        "unk_id": 0,
        "vocab": [["<unk>", 0.0], ["▁", -2.0], ["a", -3.0], ["rare", -9.0], ["b", -4.0]],
    }
    assert complete_entries({"model": model}, ["a"], "") == {"<unk>", "▁", "a", "rare"}


def test_frequent_entries_only(tmp_path: Path) -> None:
    original = make_model("wordpiece", tmp_path / "model")
    write_documents(tmp_path / "ko.jsonl", plain_sentences(300))
    sources = [TextSource(path="ko.jsonl")]
    with pytest.raises(ModelError, match=r"none of \d+ held-out texts keeps all its tokens.* raise --size"):
        trim_model(str(original), sources, tmp_path / "few", data_dir=tmp_path, size=5)
    assert not (tmp_path / "few").exists()
    everything = trim_model(str(original), sources, tmp_path / "all", data_dir=tmp_path)
    frequent = trim_model(str(original), sources, tmp_path / "few", data_dir=tmp_path, size=150)
    counted = trim_model(str(original), sources, tmp_path / "counted", data_dir=tmp_path, min_count=6)
    assert max(frequent.entries, counted.entries) < everything.entries
    assert frequent.held_out_tokens_kept < frequent.held_out_tokens
    assert frequent.held_out_tokens_after > frequent.held_out_tokens
    assert frequent.largest_difference == 0


def test_what_cannot_be_trimmed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original = make_model("wordpiece", tmp_path / "model")
    write_documents(tmp_path / "ko.jsonl", plain_sentences(300))
    sources = [TextSource(path=str(tmp_path / "ko.jsonl"))]
    (tmp_path / "there/inside").mkdir(parents=True)
    with pytest.raises(RunError, match=r"exists; choose another folder"):
        trim_model(str(original), sources, tmp_path / "there")
    config = json.loads((original / "config.json").read_text())
    (original / "config.json").write_text(json.dumps(config | {"vocab_size": 5}))
    with pytest.raises(ModelError, match=r"no weights of 5 word embeddings found"):
        trim_model(str(original), sources, tmp_path / "small")
    assert not (tmp_path / "small").exists()
    with pytest.raises(SystemExit) as caught:
        main(["vocab", "trim", str(tmp_path / "nothing"), "--texts", "x.txt", "-o", str(tmp_path / "y")])
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_a_tokenizer_with_more_entries_than_the_model(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    original = make_model("wordpiece", tmp_path / "model")
    write_documents(tmp_path / "ko.jsonl", plain_sentences(300))
    rows = load_tokenizer(original).vocab_size - 2
    weights = load_file(original / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] = weights["embeddings.word_embeddings.weight"][:rows].clone()
    save_file(weights, original / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((original / "config.json").read_text())
    (original / "config.json").write_text(json.dumps(config | {"vocab_size": rows}))
    with pytest.raises(ModelError, match=rf"its tokenizer has the id {rows + 1}, but there are {rows} word embeddings"):
        trim_model(str(original), [TextSource(path="ko.jsonl")], tmp_path / "small", data_dir=tmp_path)


def test_a_model_with_a_decoder_is_refused(tmp_path: Path) -> None:
    original = make_model("unigram", tmp_path / "model")
    (original / "config.json").write_text(json.dumps({"model_type": "t5", "is_encoder_decoder": True}))
    write_documents(tmp_path / "ko.jsonl", plain_sentences(40))
    with pytest.raises(ModelError, match=r"a t5 model has an encoder and a decoder, and cannot be trimmed"):
        trim_model(str(original), [TextSource(path="ko.jsonl")], tmp_path / "small", data_dir=tmp_path)


def test_distilbert_and_the_modules_of_sentence_transformers(tmp_path: Path) -> None:
    from safetensors.torch import load_file
    from transformers import DistilBertConfig, DistilBertForMaskedLM

    original = make_model("wordpiece", tmp_path / "model")
    for name in ("config.json", "model.safetensors"):
        (original / name).unlink()
    config = DistilBertConfig(
        vocab_size=load_tokenizer(original).vocab_size, dim=32, hidden_dim=64, n_layers=2, n_heads=2,
        max_position_embeddings=64, pad_token_id=1,
    )  # fmt: skip
    DistilBertForMaskedLM(config).save_pretrained(original)
    for name in ("1_Pooling", "2_Dense"):
        (original / name).mkdir()
        (original / name / "config.json").write_text("{}")
    write_documents(tmp_path / "ko.jsonl", plain_sentences(300))
    (tmp_path / "small").mkdir()
    result = trim_model(str(original), [TextSource(path="ko.jsonl")], tmp_path / "small", data_dir=tmp_path)
    assert result.largest_difference == 0
    assert load_file(tmp_path / "small/model.safetensors")["vocab_projector.bias"].shape == (result.entries,)
    assert {path.name for path in (tmp_path / "small").iterdir() if path.is_dir()} == {"1_Pooling", "2_Dense"}


def test_a_difference_of_outputs_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = make_model("wordpiece", tmp_path / "model")
    write_documents(tmp_path / "ko.jsonl", plain_sentences(300))
    select = torch.Tensor.__getitem__

    def shifted(tensor: torch.Tensor, index: Any) -> torch.Tensor:
        rows = select(tensor, index)
        return rows.roll(1, 0) if isinstance(index, torch.Tensor) and index.dtype == torch.int64 else rows

    monkeypatch.setattr(torch.Tensor, "__getitem__", shifted)
    with pytest.raises(ModelError, match=r"outputs of the trimmed model differ by"):
        trim_model(str(original), [TextSource(path="ko.jsonl")], tmp_path / "small", data_dir=tmp_path)
    assert not (tmp_path / "small").exists()


def test_words_that_are_divided_in_python_stay(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    parts = word_tokenizers.get("japanese")(), subword_tokenizers.get("wordpiece")(vocab_size=300)
    texts = [f"東京都に{number}人が行った。学生は本を読んだ。" for number in range(300)]
    tokenizer = compose_tokenizer(*parts, lambda: iter(texts), 64)
    config = BertConfig(vocab_size=tokenizer.vocab_size, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    BertModel(config).save_pretrained(tmp_path / "model")
    tokenizer.save(tmp_path / "model")
    write_documents(tmp_path / "ja.jsonl", texts)
    trim_model(str(tmp_path / "model"), [TextSource(path="ja.jsonl")], tmp_path / "small", data_dir=tmp_path)
    pieces = load_tokenizer(tmp_path / "small").tokenize(texts[0])
    assert pieces == tokenizer.tokenize(texts[0])
    assert len(pieces) > len(texts[0].split())


def test_pieces_after_a_marker_stay(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    entries = (
        "[PAD] [UNK] [CLS] [SEP] [MASK] 서울 부산 에서 ##에서 에 ##에 서 ##서 으로 ##으로 간다 x ##x y ##y".split()
    )
    (tmp_path / "vocab.txt").write_text("\n".join(entries), encoding="utf-8")
    BertTokenizerFast(str(tmp_path / "vocab.txt"), do_lower_case=False).save_pretrained(tmp_path / "model")
    markers = (("<subj>", "</subj>"), ("<obj>", "</obj>"))
    before = load_tokenizer(tmp_path / "model", markers=markers)
    config = BertConfig(vocab_size=before.vocab_size, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    BertModel(config).save_pretrained(tmp_path / "model")
    before.save(tmp_path / "model")
    texts = [f"<subj>서울</subj>에서 <obj>부산</obj>에서 간다 {'x ' * (i % 5)}{'y ' * (i // 5)}" for i in range(100)]
    write_documents(tmp_path / "marked.jsonl", texts)
    source = TextSource(path="marked.jsonl")
    result = trim_model(
        str(tmp_path / "model"), [source], tmp_path / "small", data_dir=tmp_path, markers=markers
    )  # fmt: skip
    assert result.equal_texts == result.compared_texts
    after = load_tokenizer(tmp_path / "small", markers=markers)
    ((old,),), ((new,),) = (side.encode(texts[:1], max_length=99) for side in (before, after))
    assert after.tokens_of(new.ids) == before.tokens_of(old.ids)
    assert "##에서" in after.tokens_of(new.ids)
    assert "으로" not in after.entries


def test_characters_after_normalization_stay(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "\u1102", "##\u1102", "\u1161", "##\u1161", "\u1112",
               "##\u1112", *(f"##{number}" for number in range(10)), *map(str, range(10))]  # fmt: skip
    (tmp_path / "vocab.txt").write_text("\n".join(entries), encoding="utf-8")
    BertTokenizerFast(str(tmp_path / "vocab.txt"), do_lower_case=True).save_pretrained(tmp_path / "model")
    config = BertConfig(vocab_size=len(entries), hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    BertModel(config).save_pretrained(tmp_path / "model")
    write_documents(tmp_path / "ko.jsonl", [f"하나 {number}" for number in range(100)])
    trim_model(str(tmp_path / "model"), [TextSource(path="ko.jsonl")], tmp_path / "small", data_dir=tmp_path)
    # No text begins with this consonant, which normalization takes out of a syllable.
    assert load_tokenizer(tmp_path / "small").tokenize("나") == ["\u1102", "##\u1161"]


def test_other_tokens_for_some_texts_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = make_model("wordpiece", tmp_path / "model")
    texts = plain_sentences(300)
    write_documents(tmp_path / "ko.jsonl", texts)
    [(word, count)] = Counter(text.split()[0] for text in texts).most_common(1)
    assert count < 200

    def change_one_word(*args: Any) -> dict[str, Any]:
        normalizer = {"type": "Replace", "pattern": {"String": word}, "content": word[::-1] + " "}
        return {**trim_tokenizer_file(*args), "normalizer": normalizer}

    monkeypatch.setattr("claf2.vocabulary.trim.trim_tokenizer_file", change_one_word)
    with pytest.raises(ModelError, match=rf"the tokens of '{word}.*' change, but all are kept"):
        trim_model(str(original), [TextSource(path="ko.jsonl")], tmp_path / "small", data_dir=tmp_path)


@pytest.mark.slow
def test_a_real_encoder(multilingual_encoder: Path, benchmark_data: Path, tmp_path: Path) -> None:
    result = trim_model(
        str(multilingual_encoder), [TextSource(path="corpus/react_docs_ko.jsonl.gz")], tmp_path / "small",
        data_dir=benchmark_data,
    )  # fmt: skip
    assert result.entries < 0.05 * result.entries_before
    assert result.bytes < 0.25 * result.bytes_before
    assert result.equal_texts > 0
    assert result.largest_difference == 0
