"""Word tokenizers: a normaliser and a pre-tokeniser each."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from claf2.errors import ModelError
from claf2.tokenizers import Word, words

if TYPE_CHECKING:
    from tokenizers import NormalizedString, PreTokenizedString
    from tokenizers import Tokenizer as Backend


@words.register("bert_basic")
class BertBasic(Word):
    """BERT's: at blanks and punctuation, control characters dropped, each Chinese character a word."""

    do_lower_case: bool = False
    strip_accents: bool | None = None
    """`null`: where it lower-cases. Takes Hangul apart into jamo."""
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


@words.register("whitespace")
class Whitespace(Word):
    """At blanks, and nowhere else."""

    def apply(self, backend: Backend) -> None:
        from tokenizers import pre_tokenizers

        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()


@words.register("character")
class Character(Word):
    """Every character that is no blank."""

    def apply(self, backend: Backend) -> None:
        from tokenizers import Regex, pre_tokenizers

        single = pre_tokenizers.Split(Regex("."), "isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), single])


class Morphemes(Word, ABC):
    """At the borders of morphemes as an analyser sees them, and at blanks. The text itself is never changed: where a
    morpheme's form is not what is written (contractions), the written form stays one piece."""

    stored: ClassVar[bool] = False

    def apply(self, backend: Backend) -> None:
        from tokenizers import pre_tokenizers

        backend.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(_Cutter(self.borders()))

    @abstractmethod
    def borders(self) -> Callable[[str], list[int]]:
        """Return a function from a text to the characters at which a morpheme begins."""


@words.register("korean")
class Korean(Morphemes):
    """Korean morphemes by Kiwi (package `kiwipiepy`, extra `ko`)."""

    def borders(self) -> Callable[[str], list[int]]:
        try:
            from kiwipiepy import Kiwi
        except ImportError as error:
            raise ModelError("the word tokenizer 'korean' needs kiwipiepy: pip install 'claf2[ko]'") from error
        kiwi = Kiwi(num_workers=1)
        return lambda text: [token.start for token in kiwi.tokenize(text)]


@words.register("japanese")
class Japanese(Morphemes):
    """Japanese morphemes by MeCab with UniDic (packages `fugashi` and `unidic-lite`, extra `ja`)."""

    def borders(self) -> Callable[[str], list[int]]:
        try:
            from fugashi import Tagger
        except ImportError as error:
            raise ModelError("the word tokenizer 'japanese' needs fugashi: pip install 'claf2[ja]'") from error
        tagger = Tagger()

        def find(text: str) -> list[int]:
            starts, position = [], 0
            for word in tagger(text):
                position = text.index(word.surface, position)
                starts.append(position)
                position += len(word.surface)
            return starts

        return find


class _Cutter:
    """A pre-tokeniser in Python, as `tokenizers` calls one."""

    def __init__(self, borders: Callable[[str], list[int]]) -> None:
        self._borders = borders

    def pre_tokenize(self, text: PreTokenizedString) -> None:
        text.split(self._cut)

    def _cut(self, _: int, text: NormalizedString) -> list[Any]:
        written = str(text)
        blanks = [index for index, character in enumerate(written) if character.isspace()]
        cuts = {0, len(written), *self._borders(written), *blanks, *(index + 1 for index in blanks)}
        edges = sorted(cut for cut in cuts if 0 <= cut <= len(written))
        pairs = itertools.pairwise(edges)
        return [text[start:end] for start, end in pairs if written[start:end].strip()]
