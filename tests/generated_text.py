"""Generated documents that look like Korean to a tokenizer."""

from __future__ import annotations

from claf2.runtime.seed import generator

SYLLABLES = "가나다라마바사아자차카타파하거너더러머버서어저처커터퍼허고노도로모보소오조초코토포호"
PARTICLES = ("은", "를", "에서", "이다", "하고", "")


def make_documents(count: int, *, name: str = "text", sentences: int = 12) -> list[str]:
    """Return documents of one sentence or more, in one paragraph or several."""
    rng = generator(7, name)
    words = ["".join(rng.choice(list(SYLLABLES), rng.integers(1, 4))) for _ in range(400)]
    documents = []
    for _ in range(count):
        text = ""
        for _ in range(int(rng.integers(1, sentences + 1))):
            chosen = [words[min(399, int(rng.exponential(60)))] for _ in range(int(rng.integers(2, 15)))]
            text += " ".join(word + PARTICLES[int(rng.integers(len(PARTICLES)))] for word in chosen)
            text += ". " if rng.random() < 0.8 else "?\n"
        documents.append(text.strip())
    return documents
