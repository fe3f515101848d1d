"""Generated documents that look like Korean to a tokenizer, and a tokenizer for any text."""

from __future__ import annotations

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from claf2.runtime.seed import generator
from claf2.tokenizers import Tokenizer
from claf2.tokenizers.fast import FastTokenizer

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


def byte_level() -> Tokenizer:
    """A byte-level BPE tokenizer without merges, whose tokens are single bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    backend = Backend(models.BPE({token: number for number, token in enumerate([*specials, *alphabet])}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.RobertaProcessing(("</s>", 3), ("<s>", 2), add_prefix_space=False)
    names = zip(("pad", "unk", "cls", "sep", "mask"), specials, strict=True)
    return FastTokenizer(
        PreTrainedTokenizerFast(tokenizer_object=backend, **{f"{name}_token": token for name, token in names})
    )
