"""Pre-training tasks: masked tokens of a corpus or of short texts, with and without next sentences."""

from __future__ import annotations

from claf2 import Task, register_task
from claf2.metrics.language_model import CausalLanguageModel, MaskedLanguageModel, NextSentence
from claf2.readers import Delimited, Documents

SOURCE = "your own text"

register_task(
    Task(
        name="corpus_mlm",
        language="ko",
        head="mlm",
        is_corpus=True,
        reader=Documents(),
        metrics=(MaskedLanguageModel(),),
        source=SOURCE,
        notes=(
            "The data block names the text files as `sources`; rows and masks are made anew in every epoch.",
            "The language is that of the generated sample; text in any language can be used.",
        ),
    )
)

register_task(
    Task(
        name="corpus_mlm_nsp",
        language="ko",
        head="mlm_nsp",
        is_corpus=True,
        reader=Documents(),
        metrics=(MaskedLanguageModel(), NextSentence()),
        source=SOURCE,
        notes=("BERT's two objectives. The rows are pairs: set `instances` to `sentence_pair`.",),
    )
)

register_task(
    Task(
        name="masked_text",
        language="ko",
        head="mlm",
        reader=Documents(),
        metrics=(MaskedLanguageModel(),),
        files={"train": "train.txt", "valid": "valid.txt"},
        source=SOURCE,
        notes=("The same tokens are masked in every epoch. It can be trained together with other tasks.",),
    )
)

register_task(
    Task(
        name="masked_pairs",
        language="ko",
        head="mlm_nsp",
        labels=("0", "1"),
        reader=Delimited(columns={"text_a": "text_a", "text_b": "text_b", "label": "label"}),
        metrics=(MaskedLanguageModel(), NextSentence()),
        files={"train": "train.tsv", "valid": "valid.tsv"},
        source=SOURCE,
        notes=("Label 0: the second text follows the first; 1: it was drawn at random.",),
    )
)

register_task(
    Task(
        name="corpus_clm",
        language="ko",
        head="clm",
        is_corpus=True,
        reader=Documents(),
        metrics=(CausalLanguageModel(),),
        source=SOURCE,
        notes=("Causal language modeling: every token predicts the next one. Set `masks` to `next_token`.",),
    )
)

register_task(
    Task(
        name="corpus_tsdae",
        language="ko",
        head="tsdae",
        is_corpus=True,
        reader=Documents(),
        metrics=(CausalLanguageModel(),),
        source=SOURCE,
        notes=(
            "A sentence encoder from plain text: words are deleted, and the text is restored from its vector. Set "
            "`masks` to `deletion`, and `instances` to `sentence`.",
        ),
    )
)

register_task(
    Task(
        name="continued_text",
        language="ko",
        head="clm",
        reader=Documents(),
        metrics=(CausalLanguageModel(),),
        files={"train": "train.txt", "valid": "valid.txt"},
        source=SOURCE,
        notes=("Documents of a file, for a decoder that is trained on a few texts of its own.",),
    )
)
