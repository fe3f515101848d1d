"""What several tests need: a private cache, a small model folder, the benchmark data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from claf2.data.samples import lexicon

# One thread: the models here are so small that threads only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

SAMPLES = Path(lexicon.__file__).parent

WORDS = """
the a an is was were in on at of and to it he she they who what when where which how many not no very film movie good
bad great poor boring city river king born lived capital north south king queen man woman dog cat house car ran sat ate
이 그 저 는 은 가 를 을 에 의 도 로 와 과 한 하다 있다 없다 좋다 나쁘다 영화 도시 사람 누구 언제 어디 무엇 서울 부산
"""


@pytest.fixture(autouse=True, scope="session")
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep caches of the tests, and of the processes they start, away from the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLAF2_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def benchmark_data() -> Path:
    """The folder with the benchmarks' own files; tests that need it are skipped where it is not set."""
    folder = os.environ.get("CLAF2_BENCHMARK_DATA")
    if not folder:
        pytest.skip("CLAF2_BENCHMARK_DATA is not set: it names a folder with the benchmarks' files")
    return Path(folder)


@pytest.fixture(scope="session")
def multilingual_encoder() -> Path:
    """The folder of a real encoder for Korean, Japanese and English; tests that need it are skipped where it is not."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = os.environ.get("CLAF2_ENCODER") or f"{cache}/claf2-encoders/multilingual-e5-small"
    path = Path(folder).expanduser()
    if not path.is_dir():
        pytest.skip(f"{path} is missing: make encoder")
    return path


@pytest.fixture(scope="session")
def vocabulary() -> list[str]:
    """A small WordPiece vocabulary: specials, some words, and every character it may meet, alone and as a suffix."""
    characters = [chr(code) for code in range(33, 127)]
    syllables = sorted({character for word in WORDS.split() for character in word if ord(character) > 127})
    words = sorted(set(WORDS.split()) - set(characters) - set(syllables))
    pieces = [f"##{character}" for character in characters + syllables]
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *syllables, *words, *pieces]
    # The letters of the generated samples, which a training would refuse if they were unknown.
    sources = "".join(path.read_text(encoding="utf-8") for path in sorted(SAMPLES.glob("*.py")))
    letters = sorted({letter for letter in sources if letter.isalpha()} - set(known))
    return [*known, *letters, *(f"##{letter}" for letter in letters)]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, vocabulary: list[str]) -> Callable[..., Path]:
    """Make a folder with a small model of some architecture (BERT unless named), weights and tokenizer included."""
    made: dict[str, Path] = {}

    def make(model_type: str = "bert", **settings: Any) -> Path:
        name = repr((model_type, sorted(settings.items())))
        if name not in made:
            made[name] = _make(tmp_path_factory.mktemp(model_type), model_type, vocabulary, settings)
        return made[name]

    return make


SMALL: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "albert": {"embedding_size": 16},
    "t5": {"d_kv": 16, "decoder_start_token_id": 0},
    "electra": {"embedding_size": 16},
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 16},
}


def _make(folder: Path, model_type: str, vocabulary: list[str], settings: dict[str, Any]) -> Path:
    import torch
    import transformers
    from transformers import AutoConfig, BertTokenizerFast

    settings = dict(settings)
    auto_class = getattr(transformers, settings.pop("auto_class", "AutoModel"))
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 514,
        "vocab_size": len(vocabulary),
        "pad_token_id": 0,
        "bos_token_id": 2,
        "cls_token_id": 2,
        "eos_token_id": 3,
        "sep_token_id": 3,
    }
    config = AutoConfig.for_model(model_type, **{**sizes, **SMALL.get(model_type, {}), **settings})
    torch.manual_seed(0)
    auto_class.from_config(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    BertTokenizerFast(
        vocab={token: index for index, token in enumerate(vocabulary)}, do_lower_case=False
    ).save_pretrained(folder)
    return folder
