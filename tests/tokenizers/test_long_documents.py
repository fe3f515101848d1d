"""Documents of a corpus may be long: only their beginnings are checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from claf2.tokenizers.coverage import check_coverage


def test_only_the_beginning_of_a_document_is_tokenized() -> None:
    class Recorded:
        unknown_id = 0
        lengths: list[int] = []  # noqa: RUF012

        def encode(self, texts: list[str], **options: Any) -> list[Any]:
            self.lengths += map(len, texts)
            raise StopAsyncIteration

    tokenizer: Any = Recorded()
    with pytest.raises(StopAsyncIteration):
        check_coverage(tokenizer, "en", ["word " * 200_000], Path("x.txt"))
    assert tokenizer.lengths == [10_000]
