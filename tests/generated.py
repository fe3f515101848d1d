"""Generated Korean text for tests of vocabularies."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

NOUNS = "학생 학교 영화 도시 사람 서울 부산 나라 음악 시간 문제 대답 하늘 바다 겨울".split()
ENDINGS = "이 가 을 를 에 에서 으로 와 과 는 은 도".split()


def make_sentences(count: int, seed: int = 0) -> list[str]:
    """Return generated Korean sentences, all of them different."""
    choose = random.Random(seed)
    return [
        " ".join(choose.choice(NOUNS) + choose.choice(ENDINGS) for _ in range(6)) + f" {number}번 간다."
        for number in range(count)
    ]


def write_documents(path: Path, texts: Sequence[str]) -> None:
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8")
