"""An index of passages in a folder: their texts, a matrix of terms, and optional vectors.

Its manifest holds the settings and one digest of all passages. The same passages with the same settings make the same
terms, byte for byte, whether they were added at once or in several steps.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256 as sha256_of
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from claf2.errors import Claf2Error, ConfigError, ModelError, RunError, first_line, nearest
from claf2.retrieval.bm25 import Bm25, best_places, build_bm25
from claf2.retrieval.encoders import TextEncoder, open_encoder
from claf2.retrieval.neighbors import Neighbors, build_neighbors, import_faiss
from claf2.retrieval.passages import Passage, find_fault, write_passages
from claf2.retrieval.ranking import rank_by_terms, rank_by_vector
from claf2.retrieval.terms import check_terms, choose_terms, find_splitter
from claf2.runs.progress import show_progress
from claf2.runtime.files import check_digests, read_json, replace_dir_atomic, wait_for_lock, write_json

__all__ = ["Hit", "IndexSettings", "PassageIndex", "SearchMethod", "build_index"]

SearchMethod: TypeAlias = Literal["bm25", "dense", "hybrid"]
"""By terms, by vectors, or by both."""

VERSION = 1
INDEX_FILE = "index.json"
PASSAGES = "passages.jsonl"

WAITED = 0.05
"""Seconds between attempts to open an index that another process replaces."""
CANDIDATES = 1000
"""The fewest candidates of an approximate search, by vectors and, in a hybrid one, by terms."""
ENCODER_DIGESTS = {"encoder_digest": "digest", "tokenizer_digest": "tokenizer_digest"}
"""What the manifest holds of an encoder → its attribute. Older manifests have no digest of the tokenizer."""
SAMPLED = 200
"""How many passages are read to decide which kind of terms a collection needs."""


@dataclass(frozen=True)
class IndexSettings:
    """How passages are indexed."""

    terms: str = "auto"
    """``bigrams``, ``words``, the name of a word tokenizer that finds morphemes, or ``auto``: decided by the
    first passages."""
    encoder: str | None = None
    """The folder of an encoder, or of a run; ``None``: no vectors."""
    query_prefix: str | None = None
    """What the encoder expects before a question, such as ``query: `` for E5; ``None``: what its run was trained with,
    or the default prompt of its folder, which an index keeps, and nothing where there is neither."""
    passage_prefix: str | None = None
    """What it expects before a passage, such as ``passage: `` for E5; ``None``: as above."""
    approximate: bool = False
    """Whether a question's vector is compared only with candidates, which FAISS chooses."""
    titles: bool = False
    """Whether the passages are searched with the titles of their files in SQuAD's format; ``read_passages`` adds them.
    An index keeps it for passages that are added."""


@dataclass(frozen=True)
class Hit:
    """A passage that was found."""

    rank: int
    """The position in the results, from 1."""
    score: float
    """The BM25 score, the cosine of two vectors, or the hybrid score from 0 to 1, depending on the method."""
    passage: Passage


def build_index(
    folder: Path,
    passages: Iterable[Passage],
    settings: IndexSettings,
    *,
    add: bool = False,
    overwrite: bool = False,
) -> PassageIndex:
    """Make an index, or add passages to one.

    Terms are counted again, since the weight of each depends on all passages. The vectors of passages that the index
    has already are kept.

    Args:
        folder: the folder of the index.
        passages: the passages. Those that occur several times are stored once.
        settings: how they are indexed; with ``add``, those of the index are used.
        add: add to the index in the folder.
        overwrite: replace the index in the folder, even a damaged one. What is no index is never replaced.

    Raises:
        RunError: if the folder exists and is neither added to nor overwritten, or is to be added to and is no index,
            or nothing is left to index.
        Claf2Error: if the encoder cannot be opened.
    """
    # The index behind a link: a lock beside the link would not be that of the index, and it would be replaced itself.
    folder = folder.resolve()
    if add and overwrite:
        raise RunError("--add: cannot be used with --overwrite, which replaces the index; leave out one of them")
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder}: is a file; give a folder with -o")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Held from the first look at the folder on: of two processes that add at once, the second sees what the first did.
    lock = folder.with_name(f".{folder.name}.lock")
    with wait_for_lock(lock):
        try:
            left = folder.with_name(f".{folder.name}.old")
            if left.is_dir() and not folder.exists():  # a process was killed while it replaced the index
                left.rename(folder)
            old = PassageIndex(folder) if add else None
            if old is not None:
                old.check()  # what is damaged must not be carried over under new digests
            elif folder.exists() and any(folder.iterdir()) and not (overwrite and (folder / INDEX_FILE).is_file()):
                ways = "add to it with --add, replace it with --overwrite, or give another folder"
                hint = ways if (folder / INDEX_FILE).is_file() else "it is not an index, so give another folder"
                raise RunError(f"{folder}: exists already; {hint}")
            return _build(folder, passages, settings, old)
        except BaseException:
            lock.unlink(missing_ok=True)  # a process that waits for it sees that it is gone, and makes a new one
            raise


def _build(
    folder: Path, passages: Iterable[Passage], settings: IndexSettings, old: PassageIndex | None
) -> PassageIndex:
    """Make an index with the passages of ``old``, if there is one, and with new passages."""
    stored: dict[str, Passage] = {passage.id: passage for passage in (old or ())}
    known = len(stored)
    for passage in passages:
        stored.setdefault(passage.id, passage)
    if not stored:
        raise RunError("there are no passages to index; give files with text")
    if old is not None and len(stored) == known:
        return old
    texts = [passage.searched for passage in stored.values()]
    if old is not None:
        settings = old.settings
        check_terms(settings.terms, texts[known:][:SAMPLED], str(folder))
    elif settings.terms == "auto":
        settings = replace(settings, terms=choose_terms(texts[:SAMPLED]))
    if settings.approximate:
        import_faiss()  # before hours of encoding
    encoder = None
    if settings.encoder is not None:
        encoder = old.encoder if old is not None else open_encoder(Path(settings.encoder))
    settings = _with_prefixes(settings, encoder)
    vectors = None if encoder is None else _make_vectors(settings, encoder, texts[known:], old)

    def fill(new: Path) -> None:
        _write(new, list(stored.values()), texts, settings, vectors, encoder)

    replace_dir_atomic(folder, fill)
    return PassageIndex(folder)


def _with_prefixes(settings: IndexSettings, encoder: TextEncoder | None) -> IndexSettings:
    """Return settings that state both prefixes."""
    own: dict[str, Any] = {name: getattr(encoder, name, "") for name in ("query_prefix", "passage_prefix")}
    return replace(settings, **{name: prefix for name, prefix in own.items() if getattr(settings, name) is None})


def _make_vectors(
    settings: IndexSettings, encoder: TextEncoder, texts: Sequence[str], old: PassageIndex | None
) -> NDArray[np.float32]:
    """Return the vectors of all passages, of which ``texts`` are those that are new."""
    with show_progress("vectors", len(texts), " passages") as progress:
        vectors = encoder.encode([f"{settings.passage_prefix}{text}" for text in texts], progress.update)
    if old is not None:
        vectors = np.concatenate([old.vectors, vectors])
    return vectors


def _write(
    folder: Path,
    passages: Sequence[Passage],
    texts: Sequence[str],
    settings: IndexSettings,
    vectors: NDArray[np.float32] | None,
    encoder: TextEncoder | None,
) -> None:
    np.save(folder / "offsets.npy", np.array(write_passages(folder / PASSAGES, passages), np.int64))
    with show_progress("terms", len(texts), " passages") as progress:
        build_bm25(folder, texts, find_splitter(settings.terms), progress.update)
    if vectors is not None:
        np.save(folder / "vectors.npy", vectors)
        if settings.approximate:
            build_neighbors(folder, vectors)
    names = "\n".join(passage.id for passage in passages)
    write_json(folder / INDEX_FILE, {
        "version": VERSION, "passages": len(passages), "content": sha256_of(names.encode()).hexdigest(),
        "settings": asdict(settings), **{name: getattr(encoder, key, None) for name, key in ENCODER_DIGESTS.items()},
    })  # fmt: skip


class PassageIndex(Sequence[Passage]):
    """An index in a folder. Its files are mapped into memory, and its encoder is loaded when it is first needed.

    Args:
        folder: the folder that ``build_index`` wrote.

    Raises:
        RunError: if it is not an index, or of another version.

    Examples:
        >>> index = claf2.PassageIndex("logs/index")
        >>> index.search("수도는 어디인가?", k=1)[0].passage.text
        '대한민국의 수도는 서울이다.'
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest: dict[str, Any]
        """The settings of the index, and the digests of its contents."""
        self._encoder: TextEncoder | None = None
        # While it is opened, another process may replace the folder.
        for is_last in (False, False, True):
            before = self._find_inode()
            try:
                self._open()
            except RunError:
                if is_last or self._find_inode() == before is not None:
                    raise
            else:
                if is_last or self._find_inode() == before:
                    return
            time.sleep(WAITED)

    def _find_inode(self) -> int | None:
        """Return what tells the folder apart from one that replaces it; ``None`` if there is none."""
        with suppress(OSError):
            return self.folder.stat().st_ino
        return None

    def _open(self) -> None:
        if not (self.folder / INDEX_FILE).is_file():
            raise RunError(f"{self.folder}: is not an index; make one: claf2 index TEXTS -o {self.folder}")
        try:
            self.manifest = read_json(self.folder / INDEX_FILE)
            version = self.manifest.get("version")
            self.settings = IndexSettings(**self.manifest["settings"]) if version == VERSION else IndexSettings()
        except (RunError, KeyError, TypeError) as error:
            raise self._damage(error) from error
        if version != VERSION:
            raise RunError(f"{self.folder}: an index of another version of claf2; make it again: {self._command}")
        try:
            split = find_splitter(self.settings.terms)
            self._offsets = np.load(self.folder / "offsets.npy", mmap_mode="r")
            self._passages = np.memmap(self.folder / PASSAGES, np.uint8, mode="r")
            if len(self) != self.manifest["passages"] or self._offsets[-1] != len(self._passages):
                raise ValueError(f"{PASSAGES} does not fit its manifest")
            self._bm25 = Bm25(self.folder, len(self), split)
            has_vectors = self.settings.encoder is not None
            if has_vectors and not isinstance(self.manifest["encoder_digest"], str):
                raise ValueError("no digest of its encoder")
            self._vectors = np.load(self.folder / "vectors.npy", mmap_mode="r") if has_vectors else None
            if self._vectors is not None and len(self._vectors) != len(self):
                raise ValueError("vectors.npy does not fit its manifest")
            self._neighbors = Neighbors(self.folder) if self.settings.approximate else None
            if self._neighbors is not None and len(self._neighbors) != len(self):
                raise ValueError("its neighbors do not fit its manifest")
        except (OSError, ValueError, EOFError, KeyError, TypeError, IndexError, ConfigError) as error:
            raise self._damage(error) from error

    def _damage(self, error: Exception) -> RunError:
        return RunError(f"{self.folder}: the index is damaged ({first_line(error)}); make it again: {self._command}")

    @property
    def _command(self) -> str:
        return f"claf2 index TEXTS -o {self.folder} --overwrite"

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The vectors of all passages, (N, H).

        Raises:
            RunError: if the index has none.
        """
        if self._vectors is None:
            raise RunError(f"{self.folder}: has no vectors; make an index with --encoder, or search with --method bm25")
        vectors: NDArray[np.float32] = self._vectors
        return vectors

    @property
    def encoder(self) -> TextEncoder:
        """The encoder of the vectors.

        Raises:
            Claf2Error: if the index has no vectors, or the encoder has changed since.
        """
        if self._encoder is None:
            assert self.vectors is not None
            way_out = f"make the index again: {self._command}, or search with --method bm25"
            try:
                encoder = open_encoder(Path(str(self.settings.encoder)))
            except Claf2Error as error:
                problem = f"the encoder of {self.folder} cannot be opened: {error}"
                raise ModelError(f"{problem}; put it back, {way_out}") from error
            found = {name: getattr(encoder, key) for name, key in ENCODER_DIGESTS.items()}
            if any(self.manifest.get(name, digest) != digest for name, digest in found.items()):
                raise RunError(f"{self.settings.encoder}: has changed since {self.folder} was made; {way_out}")
            self._encoder = encoder
        return self._encoder

    @property
    def best_method(self) -> SearchMethod:
        """The method that is used if none is named: ``hybrid`` if there are vectors, else ``bm25``."""
        return "bm25" if self._vectors is None else "hybrid"

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, place: Any) -> Any:
        """Return a passage by its index."""
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        number = place % len(self)
        try:
            row = json.loads(self._passages[self._offsets[number] : self._offsets[number + 1]].tobytes())
            return Passage(row["text"], row["title"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._damage(error) from error

    def check(self) -> None:
        """Compare all files of the index with their digests.

        Raises:
            RunError: naming the file that has changed.
        """
        try:
            check_digests(self.folder)
        except RunError as error:
            raise RunError(f"{error}; make it again: {self._command}") from error

    def search(self, question: str, k: int = 5, method: SearchMethod | None = None) -> list[Hit]:
        """Return the best passages for a question, the best first; fewer than ``k`` if no others contain its terms.

        Args:
            question: the text to look for.
            k: how many passages.
            method: ``bm25``, ``dense``, ``hybrid``, or ``None``: ``best_method``.

        Raises:
            Claf2Error: if the question is empty or no text, ``k`` is below 1, there is no such method, or it needs
                vectors, and the index has none.
        """
        return self.search_all([question], k, method)[0]

    def search_all(self, questions: Sequence[str], k: int = 5, method: SearchMethod | None = None) -> list[list[Hit]]:
        """Return the best passages for each of several questions; see ``search``."""
        places = self.find_places(questions, k, method)
        return [
            [Hit(rank, score, self[place]) for rank, (place, score) in enumerate(ranked, start=1)] for ranked in places
        ]

    def find_places(
        self, questions: Sequence[str], k: int, method: SearchMethod | None = None
    ) -> list[list[tuple[int, float]]]:
        """Return the indices of the best passages for each question, and their scores; see ``search``.

        Raises:
            Claf2Error: in the cases in which ``search`` raises it.
        """
        fault = next(filter(None, map(find_fault, questions)), None)
        if fault is not None:
            raise RunError(f"a question {fault}; write one in UTF-8")
        if k < 1:
            raise RunError(f"k: {k} is not a number of passages; give 1 or more")
        chosen = method or self.best_method
        if chosen not in get_args(SearchMethod):
            raise RunError(f"there is no method {chosen!r}; {nearest(str(chosen), get_args(SearchMethod))}")
        if chosen == "bm25" or not questions:
            return [rank_by_terms(self._bm25.score(question), k) for question in questions]
        vectors = self.encoder.encode([f"{self.settings.query_prefix}{question}" for question in questions])
        return [
            self._find_by_vector(vector, self._bm25.score(question) if chosen == "hybrid" else None, k)
            for question, vector in zip(questions, vectors, strict=True)
        ]

    def _find_by_vector(
        self, vector: NDArray[np.float32], terms: NDArray[np.float64] | None, k: int
    ) -> list[tuple[int, float]]:
        candidates: NDArray[np.intp] | None = None
        if self._neighbors is not None:
            candidates = self._neighbors.find(vector, max(k, CANDIDATES))
            if terms is not None:
                candidates = np.union1d(candidates, best_places(terms, max(k, CANDIDATES)))
        return rank_by_vector(vector, self.vectors, k, terms, candidates)
