"""Causal language models: which tokens are learned, several texts in a row, and what runs leave."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from click.testing import CliRunner
from language_models import CAUSAL, byte_tokenizer, make_language_model, save_language_model

import claf2
from claf2 import config
from claf2.cli.main import claf2 as command
from claf2.data.features import featurize_in_memory
from claf2.errors import Claf2Error, ConfigError, ModelError
from claf2.heads import Request
from claf2.heads.chat import answer_end
from claf2.heads.continuation import ConversationFeaturizer, Decoding, InstructionHead
from claf2.heads.networks.continuation import fill_rows, predict_next
from claf2.heads.predicted_tokens import NO_TARGET
from claf2.readers import ConversationExample, Turn
from claf2.runs.generation import TextGenerator, parse_prompts
from claf2.runs.resolve import resolve
from claf2.task import tasks
from claf2.tokenizers import Tokenizer
from claf2.tokenizers.build import load_tokenizer

CHATML = (
    "{% for message in messages %}<|start|>{{ message.role }}\n{{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
LLAMA = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set rest = messages[1:] %}{% else %}"
    "{% set system = '' %}{% set rest = messages %}{% endif %}{% for message in rest %}{% if message.role == 'user' %}"
    "{{ bos_token }}[INST] {% if loop.first and system %}<<SYS>>{{ system }}<</SYS>> {% endif %}{{ message.content }}"
    " [/INST]{% else %} {{ message.content }} {{ eos_token }}{% endif %}{% endfor %}"
)
CHANGING = "{% for message in messages %}{{ message.content if loop.last else message.content[:1] }}|{% endfor %}"

SINGLE = (Turn("user", "Name the colour.", "a ripe banana"), Turn("assistant", "yellow"))
LONG = (
    Turn("system", "Be brief."),
    Turn("user", "수도는?"),
    Turn("assistant", "서울"),
    Turn("user", "the film"),
    Turn("assistant", "was good"),
)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            made[kind] = save_language_model(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return make


def with_template(template: str, folder: Path) -> Tokenizer:
    """Return the byte-level tokenizer with a chat template and the tokens that it writes."""
    byte_tokenizer().save(folder)
    wrapped = transformers.AutoTokenizer.from_pretrained(folder)
    special = {"additional_special_tokens": ["<|start|>", "<|end|>"], "bos_token": "[CLS]", "eos_token": "[SEP]"}
    wrapped.add_special_tokens(special)
    wrapped.chat_template = template
    wrapped.save_pretrained(folder)
    return load_tokenizer(folder)


def learned(featurizer: ConversationFeaturizer, tokenizer: Tokenizer, turns: tuple[Turn, ...]) -> tuple[str, list[str]]:
    """Return the text of a conversation, and its pieces that are learned, special tokens included."""
    (feature,) = featurizer.features([ConversationExample(id="0", turns=turns)], tokenizer, [], Counter())
    wrapped: Any = tokenizer
    ids, targets = feature["input_ids"], feature["labels"]
    assert all(target in (NO_TARGET, ids[place + 1]) for place, target in enumerate(targets[:-1]))
    assert targets[-1] == NO_TARGET
    pieces: list[list[int]] = [[]]
    for target in targets:
        if target == NO_TARGET:
            pieces.append([])
        else:
            pieces[-1].append(target)
    decode = wrapped._wrapped.decode
    return decode(ids), [decode(piece) for piece in pieces if piece]


ALPACA = "Below is an instruction that describes a task, paired with an input that provides further context."


def test_answers_are_learned_token_by_token_in_every_layout() -> None:
    tokenizer = byte_tokenizer()
    text, pieces = learned(ConversationFeaturizer(layout="alpaca"), tokenizer, SINGLE)
    assert text.startswith(
        f"[CLS]{ALPACA} Write a response that appropriately completes the request.\n\n### Instruction:\n"
    )
    assert text.endswith(
        "### Instruction:\nName the colour.\n\n### Input:\na ripe banana\n\n### Response:\nyellow[SEP]"
    )
    assert pieces == ["yellow[SEP]"]
    text, pieces = learned(
        ConversationFeaturizer(layout="kullm"), tokenizer, (Turn("user", "수도는?"), Turn("assistant", "서울"))
    )
    assert "입력" not in text.split("### 명령어:")[1]
    assert text.endswith("### 명령어:\n수도는?\n\n### 응답:\n서울[SEP]")
    assert pieces == ["서울[SEP]"]
    text, pieces = learned(ConversationFeaturizer(), tokenizer, LONG)
    assert text == (
        "[CLS]Be brief.\n\nUser: 수도는?\nAssistant:\n서울[SEP]\n\nUser: the film\nAssistant:\nwas good[SEP]"
    )
    assert pieces == ["서울[SEP]", "was good[SEP]"]
    everything = learned(ConversationFeaturizer(learns_prompts=True), tokenizer, LONG)[1]
    assert everything == [text.removeprefix("[CLS]")]


def test_answers_are_found_in_chat_templates(tmp_path: Path) -> None:
    tokenizer = with_template(CHATML, tmp_path / "chatml")
    text, pieces = learned(ConversationFeaturizer(), tokenizer, LONG)
    assert text.startswith("<|start|>system\nBe brief.<|end|>")
    assert pieces == ["서울<|end|>", "was good<|end|>"]
    tokenizer = with_template(LLAMA, tmp_path / "llama")
    text, pieces = learned(ConversationFeaturizer(), tokenizer, LONG)
    assert text.count("[CLS]") == 2  # the template's own, and no further one in front
    assert text.startswith("[CLS][INST] <<SYS>>Be brief.")
    assert pieces == [" 서울 [SEP]", " was good [SEP]"]
    tokenizer = with_template(CHANGING, tmp_path / "changing")
    with pytest.raises(Claf2Error, match="the chat template changes what it has written of earlier turns"):
        learned(ConversationFeaturizer(), tokenizer, LONG)


def test_a_template_without_an_end_leaves_it_to_the_tokenizer(tmp_path: Path) -> None:
    tokenizer = with_template("{% for message in messages %}{{ message.content }}|{% endfor %}", tmp_path)
    assert learned(ConversationFeaturizer(), tokenizer, SINGLE)[1] == ["yellow|[SEP]"]
    assert answer_end("chat", tokenizer) is None


def test_a_template_that_asks_for_the_date_has_the_same_text_tomorrow(tmp_path: Path) -> None:
    tokenizer = with_template("{{ strftime_now('%d %b %Y') }}", tmp_path)
    assert tokenizer.render_chat([{"role": "user", "content": "x"}]) == "26 Jul 2024"


def test_a_conversation_that_the_template_refuses_is_named(tmp_path: Path) -> None:
    tokenizer = with_template("{{ raise_exception('no system turns') }}", tmp_path)
    with pytest.raises(Claf2Error, match=r"example '0': the chat template refuses .*: no system turns; set layout"):
        learned(ConversationFeaturizer(), tokenizer, LONG)


def test_generation_stops_at_the_end_that_was_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chat template ends answers with another token than the tokenizer ends texts with."""
    tokenizer = with_template(CHATML, tmp_path / "model")
    model = make_language_model("gpt2", vocab_size=tokenizer.vocab_size)
    model.generation_config.repetition_penalty = 3.0
    model.save_pretrained(tmp_path / "model")
    argv = [
        "--pretrained_model_name",
        str(tmp_path / "model"),
        "--token",
        "null",
        "--num_steps",
        "2",
        "--layout",
        "chat",
    ]
    claf2.train(claf2.load("scratch/instruct", sample=True, argv=[*argv, "--log_dir", str(tmp_path / "run")]))
    learned_end, own_end = tokenizer.encode_flat(["<|end|>[SEP]"]).ids.tolist()
    stored = json.loads((tmp_path / "run/best/generation_config.json").read_text())
    assert stored["eos_token_id"] == [learned_end, own_end]
    generator = TextGenerator(tmp_path / "run")
    ids = [*tokenizer.encode_flat(["서울"]).ids.tolist(), learned_end, 9]

    def generate(**given: Any) -> torch.Tensor:
        assert given["eos_token_id"] == sorted([learned_end, own_end])
        return torch.cat([given["input_ids"], torch.tensor([ids])], dim=1)

    monkeypatch.setattr(generator._module, "generate", generate)
    (answer,) = generator.stream([(Turn("user", "수도는?"),)])
    assert (answer.text, answer.is_complete) == ("서울", True)
    assert generator._module.generation_config.repetition_penalty is None  # what is not asked for has no effect


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([], "the turns are those of nobody, not of user and assistant in alternation"),
        ([{"role": "human", "text": "x"}, {"role": "gpt", "text": "y"}], "the turns are those of human, gpt, not of"),
        ([{"role": "user"}], "the fields of a turn are wrong; give turns: a list of objects with role, text"),
        ([{"role": "user", "text": 3}], "a text of a turn is not a string; give turns"),
        (3, "the fields of a turn are wrong"),
    ],
)
def test_conversations_of_requests_are_those_of_files(turns: Any, message: str) -> None:
    with pytest.raises(Claf2Error, match=message):
        InstructionHead().request(Request(tasks.get("korean_chat"), {"turns": turns}))


def test_cut_and_empty_answers_are_counted() -> None:
    tokenizer, counts = byte_tokenizer(), Counter[str]()
    rows = [
        ConversationExample(id="0", turns=(Turn("user", "x"), Turn("assistant", "y" * 99))),
        ConversationExample(id="1", turns=(Turn("user", "x" * 99), Turn("assistant", "y"))),
        ConversationExample(id="2", turns=(Turn("user", ""), Turn("assistant", ""))),
    ]
    cut, hidden, empty = ConversationFeaturizer(max_seq_length=64).features(rows, tokenizer, [], counts)
    assert len(cut["input_ids"]) == len(hidden["input_ids"]) == 64
    assert tokenizer.end_id not in cut["labels"]  # an answer that is cut does not end
    assert sum(target != NO_TARGET for target in cut["labels"]) > 9
    assert set(hidden["labels"]) == {NO_TARGET}
    assert [target for target in empty["labels"] if target != NO_TARGET] == [tokenizer.end_id]
    assert (counts["truncated"], counts["without_answer"]) == (2, 1)


def make_model(folder: Path, *words: str) -> tuple[Any, Any, dict[str, torch.Tensor]]:
    """Return a model, its head and a batch of conversations of different lengths."""
    given = ["--pretrained_model_name", str(folder), "--token", "null", "--data_reader.source", "sample"]
    run, data = resolve(config.load("scratch/instruct", [*given, *words]))
    task = run.experiment.tasks["korean_chat"]
    examples = list(data["korean_chat"]["valid"].examples())[:7]
    features = featurize_in_memory(examples, task.featurizer, run.tokenizer, [])
    model = run.model().eval()
    batch = run.dataset("korean_chat", features).batch(np.arange(7))
    return model, task.head, batch.tensors(model.device)


@pytest.mark.parametrize("kind", CAUSAL)
def test_texts_that_share_rows_have_the_outputs_of_their_own_rows(
    kind: str, language_model: Callable[[str], Path]
) -> None:
    folder = language_model(kind)
    packed, head, tensors = make_model(folder)
    padded, _, _ = make_model(folder, "--pack_texts", "false")
    module = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    losses = {}
    for name, model in {"packed": packed, "padded": padded}.items():
        outputs = model("korean_chat", tensors)
        loss = head.loss(outputs, tensors)
        loss.backward()
        losses[name] = (loss.detach(), head.collect(outputs)["nats"].detach())
    assert len(fill_rows(tensors["lengths"].tolist(), tensors["input_ids"].shape[1])) < 7  # rows are shared
    with torch.no_grad():
        for row, length in enumerate(tensors["lengths"].tolist()):
            ids = tensors["input_ids"][row : row + 1, :length]
            labels = tensors["labels"][row : row + 1, :length].roll(1, 1)  # it shifts them by itself
            mean = module(input_ids=ids, labels=labels).loss
            nats = float(mean) * int((labels[0, 1:] != NO_TARGET).sum())
            assert abs(nats - float(losses["packed"][1][row])) < 1e-4 * max(1.0, nats)
    assert (losses["packed"][1] - losses["padded"][1]).abs().max() < 1e-5 * float(losses["padded"][0])
    for first, second in zip(packed.parameters(), padded.parameters(), strict=True):
        scale = second.grad.abs().max()
        assert (first.grad - second.grad).abs().max() <= 1e-5 * scale + 1e-6
    changed = {**tensors, "input_ids": tensors["input_ids"].clone()}
    changed["input_ids"][0, 1:4] += 1
    with torch.no_grad():
        nats = head.collect(packed("korean_chat", changed))["nats"]
    assert nats[0] != losses["packed"][1][0]
    assert (nats[1:] - losses["packed"][1][1:]).abs().max() < 1e-5 * float(losses["padded"][0])


def test_models_that_cannot_share_rows_say_what_to_do() -> None:
    ids = torch.arange(4, 21)[None]
    tensors = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.roll(-1, 1)}
    for kind, message in (("lfm2", "mixes the texts of a row"), ("bloom", "takes no position ids, so several texts")):
        module = make_language_model(kind)
        with pytest.raises(ModelError, match=f"{message}.*; use --pack_texts false"):
            predict_next(module, packs=True)
        assert predict_next(module, packs=False)(**tensors)["logits"].shape == (1, 17, 400)
    module = make_language_model("gpt_neo")
    with pytest.raises(ModelError, match=r"rows of 17 tokens exceed the attention window of 16; .* --pack_texts to f"):
        predict_next(module, packs=True)(**tensors)
    assert predict_next(module, packs=False)(**tensors)["logits"].shape == (1, 17, 400)


def test_rows_are_filled_and_no_text_is_lost() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 50, 99).tolist()
    rows = fill_rows(lengths, 50)
    assert sorted(text for row in rows for text in row) == list(range(99))
    assert max(sum(lengths[text] for text in row) for row in rows) <= 50
    assert len(rows) < 60


DECODER = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 256, "initializer_range": 0.1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Pre-train a decoder on a generated corpus, and tune it on generated instructions."""
    folder = tmp_path_factory.mktemp("runs")
    phases = [{"until": 60, "batch_size": 8, "max_seq_length": 64}]
    argv = ["--architecture", json.dumps(DECODER), "--trainer.pretrain.phases", json.dumps(phases)]
    argv += ["--log_dir", str(folder / "pretrained"), "--vocab_size", "600", "--learning_rate", "1e-2"]
    claf2.train(claf2.load("scratch/pretrain_decoder", sample=True, argv=argv))
    argv = ["--pretrained_model_name", str(folder / "pretrained/best"), "--token", "null", "--num_steps", "60"]
    argv += ["--log_dir", str(folder / "tuned"), "--max_seq_length", "128", "--learning_rate", "1e-2"]
    claf2.train(claf2.load("scratch/instruct", sample=True, argv=argv))
    return folder / "pretrained", folder / "tuned"


def test_a_decoder_is_pretrained_and_tuned(runs: tuple[Path, Path]) -> None:
    """The losses are those of a model that has learned: far below that of a uniform guess, and of the start."""
    for run, steps in zip(runs, (60, 60), strict=True):
        logs = json.loads((run / "metrics.json").read_text())
        settings = json.loads((run / "best/config.json").read_text())
        assert logs["best_global_step"] == steps
        assert settings["architectures"] == ["GPT2LMHeadModel"]
        assert (settings["bos_token_id"], settings["eos_token_id"], settings["pad_token_id"]) == (2, 3, 0)
        assert logs["best"]["valid/nats_per_token"] < 0.75 * np.log(settings["vocab_size"])


def test_the_stored_model_runs_in_a_pipeline(runs: tuple[Path, Path]) -> None:
    for folder in runs:
        (own,) = TextGenerator(folder, {"max_new_tokens": 8}).stream([(Turn("user", "그것은 1989년"),)])
        pipeline: Any = transformers.pipeline("text-generation", model=str(folder / "best"), device="cpu")
        (answer,) = pipeline(own.prompt, max_new_tokens=8, do_sample=False, return_full_text=False)
        assert own.text
        assert answer["generated_text"].strip() == own.text


def test_texts_do_not_depend_on_their_batch(runs: tuple[Path, Path]) -> None:
    prompts = [(Turn("user", text),) for text in ("짧은", "몇 년에 있었던 일인가? " * 3, "누가 했는가?")]
    generator = TextGenerator(runs[1], {"max_new_tokens": 12})
    together = list(generator.stream(prompts, batch_size=3))
    assert together == list(generator.stream(prompts, batch_size=1))
    sampled = TextGenerator(runs[1], {"max_new_tokens": 12, "do_sample": True, "temperature": 2.0})
    first, again, other = (list(sampled.stream(prompts, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    with pytest.raises(Claf2Error, match=r"a prompt has .* positions leave room for 156"):
        list(TextGenerator(runs[1], {"max_new_tokens": 100}).stream([(Turn("user", "긴 " * 200),)]))


def test_the_command_reads_lines_and_names_settings_without_effect(
    runs: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    lines = '누가 했는가?\n\n{"instruction": "언제?", "input": "1989년"}\n'
    words = ["generate", str(runs[1]), "--max_new_tokens", "4", "--temperature", "0.5", "--top_k", "3"]
    result = CliRunner().invoke(command, words, input=lines, catch_exceptions=False)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["prompt"] for row in rows] == ["User: 누가 했는가?\nAssistant:\n", "User: 언제?\n1989년\nAssistant:\n"]
    assert "temperature, top_k: no effect without sampling" in caplog.text
    plain = CliRunner().invoke(
        command, ["generate", str(runs[0]), "그것은", "--max_new_tokens", "3"], catch_exceptions=False
    )
    (with_input,) = TextGenerator(runs[0], {"max_new_tokens": 2}).stream([(Turn("user", "언제?", "1989년"),)])
    assert with_input.prompt == "언제?\n\n1989년"
    assert len(plain.stdout.strip()) > 0
    assert not plain.stdout.startswith("{")
    assert Decoding(do_sample=True, top_p=0.5).inert() == []
    for bad, message in (
        ("{", "line 1: not a conversation"),
        ('{"messages": []}', "the last message must be the user's"),
    ):
        with pytest.raises(Claf2Error, match=message):
            list(parse_prompts([bad]))


def test_every_token_of_a_corpus_predicts_the_next_one(tmp_path: Path) -> None:
    from claf2.runs.prepare import prepare

    argv = ["--log_dir", str(tmp_path), "--architecture", json.dumps(DECODER), "--vocab_size", "600"]
    argv += ["--trainer.pretrain.phases", '[{"until": 3, "batch_size": 4, "max_seq_length": 32}]']
    run, data = resolve(claf2.load("scratch/pretrain_decoder", sample=True, argv=argv))
    prepared = prepare(run, data)
    for _, (batch,) in prepared.stream.epoch(0):
        ids, labels, mask = (batch.arrays[name] for name in ("input_ids", "labels", "attention_mask"))
        assert ids.shape == (4, 32)
        for row in range(4):
            length = mask[row].sum()
            assert np.array_equal(labels[row, : length - 1], ids[row, 1:length])
            assert (labels[row, length - 1 :] == NO_TARGET).all()
    (features, _) = prepared.valid["valid"]["corpus_clm"]
    first = features.table.slice(0, 1).to_pylist()[0]
    assert first["labels"][:-1] == first["input_ids"][1:]


@pytest.mark.parametrize(
    ("dataset", "masks", "message"),
    [("corpus_clm", "token", "use next_token"), ("corpus_mlm", "next_token", "use token, word, eojeol")],
)
def test_masks_that_do_not_fit_the_head_are_refused(dataset: str, masks: str, message: str) -> None:
    base = "scratch/pretrain_decoder" if dataset == "corpus_clm" else "scratch/pretrain"
    with pytest.raises(ConfigError, match=message):
        config.load(base, [f"--{dataset}.masks.name", masks])
