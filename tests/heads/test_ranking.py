"""Answers ranked by language models, against a plain loop, against lm-evaluation-harness, and whatever the batch is."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from language_models import CAUSAL, SEQ2SEQ, make_language_model, save_language_model
from torch.nn.functional import log_softmax

import claf2
from claf2 import config
from claf2.data.batch import batches_by_length
from claf2.data.features import featurize_in_memory
from claf2.errors import Claf2Error, ConfigError, ModelError, RunError
from claf2.export.build import export_run
from claf2.heads.networks.ranking import rank_by_tree
from claf2.runs.resolve import Run, open_run, resolve


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make a folder with a small model that generates text."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            made[kind] = save_language_model(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return make


LONG_WORDS = ("the film was good", "a bad movie")
"""Answers of several tokens each: the positions of the second one must not depend on the first."""


def make_run(folder: Path, model_name: str, *words: str) -> tuple[Run, list[Any]]:
    """Return a run on the sample of MRPC, and its first validation rows."""
    given = ["--model.name", model_name, "--pretrained_model_name", str(folder), "--data_reader.source", "sample"]
    run, data = resolve(config.load("glue/mrpc_bert", [*given, "--max_seq_length", "200", *words]))
    return run, list(islice(data["mrpc"]["valid"].examples(), 6))


def scores(run: Run, examples: Sequence[Any], batch_size: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the scores and the sums of log-probabilities of every row, (N, C), in batches of one size."""
    task = run.experiment.tasks["mrpc"]
    features = featurize_in_memory(examples, task.featurizer, run.tokenizer, run.labels["mrpc"])
    dataset, model = run.dataset("mrpc", features), run.model().eval()
    logits: dict[int, np.ndarray] = {}
    sums: dict[int, np.ndarray] = {}
    with torch.inference_mode():
        for rows in batches_by_length(np.full(len(examples), 9), batch_size):
            outputs = model("mrpc", dataset.batch(rows).tensors(model.device))
            logits |= dict(zip(rows.tolist(), outputs.logits.numpy(), strict=True))
            if outputs.log_probabilities is not None:
                sums |= dict(zip(rows.tolist(), outputs.log_probabilities.numpy(), strict=True))
    return np.stack([logits[row] for row in sorted(logits)]), np.stack(list(sums.values())) if sums else None


def plain_loop(run: Run, module: Any, prompt: str, answer: str) -> float:
    """Return the log-probability of an answer after a prompt, token by token, by the model's own tokenizer."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(run.source)
    stem = prompt.rstrip(" ")
    whole = tokenizer(stem + prompt[len(stem) :] + answer, add_special_tokens=False)["input_ids"]
    begin = [tokenizer.cls_token_id]
    known = len(tokenizer(stem, add_special_tokens=False)["input_ids"])
    total = 0.0
    for place in range(known, len(whole)):
        with torch.no_grad():
            logits = module(torch.tensor([begin + whole[:place]])).logits[0, -1]
        total += float(log_softmax(logits.double(), -1)[whole[place]])
    return total


@pytest.mark.parametrize("kind", [*CAUSAL, "gemma2"])
def test_likelihoods_are_those_of_a_plain_loop_in_any_batch(kind: str, language_model: Callable[[str], Path]) -> None:
    words = ("--label_words", json.dumps(dict(zip("01", LONG_WORDS, strict=True))), "--max_seq_length", "300")
    run, examples = make_run(language_model(kind), "rank_causal", "--prompt_shots", "1", *words)
    assert min(len(run.tokenizer.tokenize(f" {word}")) for word in LONG_WORDS) > 1
    featurizer: Any = run.experiment.tasks["mrpc"].featurizer
    module = transformers.AutoModelForCausalLM.from_pretrained(language_model(kind)).eval()
    expected = []
    for example in examples[:3]:
        prompt = "".join(featurizer._demonstrations(example)) + featurizer.render(example)[0]
        expected.append([plain_loop(run, module, prompt, word) for word in LONG_WORDS])
    alone, _ = scores(run, examples, 1)
    together, sums = scores(run, examples, 6)
    assert np.ptp(alone) > 0.5  # the answers are not all alike
    assert np.abs(alone[:3] - expected).max() < 1e-5
    assert np.abs(alone - together).max() < 1e-5
    assert sums is not None
    assert np.array_equal(sums, together)


def test_scores_are_normalized_as_they_are_named(language_model: Callable[[str], Path]) -> None:
    folder = language_model("llama")
    words = ("--label_words", '{"0": "No", "1": "the film was good"}')
    plain = scores(make_run(folder, "rank_causal", *words)[0], make_run(folder, "rank_causal")[1], 6)[0]
    run, examples = make_run(folder, "rank_causal", *words, "--score", "tokens")
    sizes = [len(run.tokenizer.tokenize(f" {word}")) for word in ("No", "the film was good")]
    assert sizes[0] < sizes[1]
    assert np.allclose(scores(run, examples, 6)[0], plain / sizes, atol=1e-6)
    run, examples = make_run(folder, "rank_causal", *words, "--score", "bytes")
    assert np.allclose(scores(run, examples, 6)[0], plain / [2, 17], atol=1e-6)
    run, examples = make_run(folder, "rank_causal", *words, "--score", "calibrated")
    module = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    free = "Sentence 1: N/A\nSentence 2: N/A\nSame meaning: "
    prior = [plain_loop(run, module, free, word) for word in ("No", "the film was good")]
    for batch_size in (1, 6):
        assert np.abs(scores(run, examples, batch_size)[0] - (plain - prior)).max() < 1e-5


@pytest.mark.parametrize("initializer_range", [0.02, 0.3])
def test_models_that_mix_the_texts_of_a_row_cannot_rank(initializer_range: float) -> None:
    rank_by_tree(make_language_model("llama", initializer_range=initializer_range))
    mixing = make_language_model("lfm2", initializer_range=initializer_range)
    with pytest.raises(ModelError, match="Lfm2ForCausalLM mixes the texts of a row; use a model with attention alone"):
        rank_by_tree(mixing)
    with pytest.raises(ModelError, match=r"takes no position ids, .*; use a model with .* position ids"):
        rank_by_tree(make_language_model("bloom"))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("gpt_neo", {}), ("mistral", {"sliding_window": 16, "num_key_value_heads": 2})],
)
def test_rows_longer_than_the_attention_window_are_refused(kind: str, settings: dict[str, Any]) -> None:
    rank = rank_by_tree(make_language_model(kind, **settings))
    ids = torch.arange(4, 21)[None]
    segments = torch.tensor([[0] * 14 + [1, 2, 2]])
    assert torch.isfinite(rank(ids[:, :16], segments[:, :16], torch.ones(1, 2)).logits).all()
    with pytest.raises(ModelError, match="rows of 17 tokens exceed the attention window of 16; set --max_seq_length"):
        rank(ids, segments, torch.ones(1, 2))


def test_a_short_window_is_not_taken_for_mixed_texts() -> None:
    rank = rank_by_tree(make_language_model("mistral", sliding_window=4, num_key_value_heads=2))
    ids, segments = torch.arange(4, 9)[None], torch.tensor([[0, 0, 0, 1, 2]])
    assert torch.isfinite(rank(ids[:, :4], segments[:, :4], torch.ones(1, 1)).logits).all()
    with pytest.raises(ModelError, match="rows of 5 tokens exceed the attention window of 4"):
        rank(ids, segments, torch.ones(1, 2))


def test_a_window_that_no_layer_uses_is_no_limit() -> None:
    module = make_language_model("qwen2", sliding_window=8, use_sliding_window=False, num_key_value_heads=2)
    ids, segments = torch.arange(4, 21)[None], torch.tensor([[0] * 14 + [1, 2, 2]])
    assert torch.isfinite(rank_by_tree(module)(ids, segments, torch.ones(1, 2)).logits).all()


def test_likelihoods_are_those_of_the_evaluation_harness(language_model: Callable[[str], Path]) -> None:
    harness = pytest.importorskip("lm_eval.models.huggingface", reason="pip install lm_eval")
    instance = pytest.importorskip("lm_eval.api.instance").Instance
    folder = language_model("gpt2")
    words = ("--label_words", json.dumps(dict(zip("01", LONG_WORDS, strict=True))), "--max_seq_length", "500")
    run, examples = make_run(folder, "rank_causal", "--prompt_shots", "2", *words)
    featurizer: Any = run.experiment.tasks["mrpc"].featurizer
    requests, expected = [], scores(run, examples, 6)[0]
    for example in examples:
        prompt = "".join(featurizer._demonstrations(example)) + featurizer.render(example)[0]
        assert prompt.endswith("Same meaning: ")
        pairs = [(prompt.rstrip(" "), f" {word}") for word in LONG_WORDS]
        requests += [instance("loglikelihood", {}, pair, 0) for pair in pairs]
    model = harness.HFLM(pretrained=str(folder), device="cpu", batch_size=3, add_bos_token=False, prefix_token_id=2)
    # It encodes prompts without special tokens, and this tokenizer would put one at the end of a text as well.
    begin = run.tokenizer.template.single[0].ids
    encoded = [
        (request.args, [*begin, *context], continuation)
        for request in requests
        for context, continuation in [model._encode_pair(*request.args)]
    ]
    answers = model._loglikelihood_tokens(encoded, disable_tqdm=True)
    assert np.abs(np.array([value for value, _ in answers]).reshape(-1, 2) - expected).max() < 1e-4


def test_in_context_learning_takes_no_step_and_keeps_its_demonstrations(
    language_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = language_model("gpt_neox")
    words = ["--model.name", "rank_causal", "--pretrained_model_name", str(folder), "--trainer.name", "in_context"]
    words += ["--prompt_shots", "2", "--max_seq_length", "300"]
    reports = {}
    for seed in (1, 2):
        run_dir = tmp_path / str(seed)
        argv = [*words, "--log_dir", str(run_dir), "--seed_num", str(seed)]
        reports[seed] = claf2.train(claf2.load("glue/mrpc_bert", sample=True, argv=argv))
    first, second = (json.loads((tmp_path / str(seed) / "demonstrations.json").read_text()) for seed in (1, 2))
    assert first != second
    (before, after) = (
        transformers.AutoModelForCausalLM.from_pretrained(place).state_dict() for place in (folder, tmp_path / "1/best")
    )
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert json.loads((tmp_path / "1/metrics.json").read_text())["best_global_step"] == 0
    reopened: Any = open_run(tmp_path / "1").experiment.tasks["mrpc"].featurizer
    assert reopened.demonstrations == first["mrpc"]
    if importlib.util.find_spec("onnxruntime") is not None:
        with pytest.raises(RunError, match="a language model cannot be exported"):
            export_run(tmp_path / "1", tmp_path / "export")
    pair = {"text_a": "the film was good", "text_b": "a bad movie"}
    (answer,) = claf2.Predictor(tmp_path / "1").predict([pair])
    assert math.isclose(sum(answer.details["probabilities"].values()), 1, abs_tol=1e-6)


def test_what_makes_no_sense_without_steps_or_with_two_tasks_is_refused(
    language_model: Callable[[str], Path], tmp_path: Path
) -> None:
    words = ["--pretrained_model_name", str(language_model("gpt2")), "--log_dir", str(tmp_path)]
    single = claf2.load(
        "glue/mrpc_bert", sample=True, argv=["--model.name", "rank_causal", "--trainer.name", "in_context", *words]
    )
    with pytest.raises(ConfigError, match="'in_context' takes no step"):
        claf2.explain(single)
    argv = [*words, "--num_steps", "1", "--mrpc.model.name", "rank_causal", "--rte.model.name", "rank_causal"]
    several = claf2.load(tasks=["glue/mrpc_bert", "glue/rte_bert"], sample=True, argv=argv)
    with pytest.raises(ConfigError, match="a language model answers one task per run"):
        claf2.train(several)


@pytest.mark.parametrize("kind", SEQ2SEQ)
def test_label_names_are_ranked_by_an_encoder_decoder(kind: str, language_model: Callable[[str], Path]) -> None:
    folder = language_model(kind)
    run, examples = make_run(folder, "rank", "--label_words", '{"0": "No", "1": "Maybe True"}')
    alone, _ = scores(run, examples, 1)
    together, _ = scores(run, examples, 6)
    assert np.abs(alone - together).max() < 1e-5
    module = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    featurizer: Any = run.experiment.tasks["mrpc"].featurizer
    for row, example in enumerate(examples[:2]):
        encoded = tokenizer("".join(featurizer.render(example)).strip(), return_tensors="pt")
        encoded.pop("token_type_ids", None)
        for index, word in enumerate(("No", "Maybe True")):
            labels = tokenizer(word, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                loss = module(**encoded, labels=labels).loss
            assert abs(float(-loss) * labels.shape[1] - alone[row, index]) < 1e-5
    turned, examples = make_run(folder, "rank", "--label_words", '{"1": "No", "0": "Maybe True"}')
    assert np.array_equal(scores(turned, examples, 6)[0], together[:, ::-1])
    other, examples = make_run(folder, "rank", "--label_words", '{"0": "No", "1": "False"}')
    changed = scores(other, examples, 6)[0]
    assert np.array_equal(changed[:, 0], together[:, 0])
    assert (changed[:, 1] != together[:, 1]).all()


def test_both_losses_of_an_encoder_decoder(language_model: Callable[[str], Path]) -> None:
    folder = language_model("t5")
    for kind in ("tokens", "labels"):
        run, examples = make_run(folder, "rank", "--loss_kind", kind, "--label_words", '{"0": "No", "1": "Maybe True"}')
        task = run.experiment.tasks["mrpc"]
        features = featurize_in_memory(examples, task.featurizer, run.tokenizer, run.labels["mrpc"])
        model, batch = run.model().eval(), run.dataset("mrpc", features).batch(np.arange(6))
        tensors = batch.tensors(model.device)
        with torch.inference_mode():
            outputs = model("mrpc", tensors)
        loss, gold = float(task.head.loss(outputs, tensors)), tensors["labels"]
        if kind == "tokens":
            expected = -outputs.log_probabilities[torch.arange(6), gold].sum()
            sizes = [len(run.tokenizer.tokenize(word)) + 1 for word in ("No", "Maybe True")]
            assert task.head.weight(batch.arrays) == sum(sizes[label] for label in gold.tolist())
        else:
            expected = -outputs.logits.log_softmax(-1)[torch.arange(6), gold].sum()
            assert task.head.weight(batch.arrays) == 6
        assert math.isclose(loss, float(expected), rel_tol=1e-6)


def test_words_at_a_mask_have_the_logits_of_the_whole_model(model_folder: Callable[..., Path]) -> None:
    folder = model_folder(auto_class="AutoModelForMaskedLM", initializer_range=0.5)
    words = ("--label_words", '{"0": "bad", "1": "good"}', "--max_seq_length", "32")
    run, examples = make_run(folder, "rank_mask", *words)
    found, _ = scores(run, examples, 6)
    assert np.abs(scores(run, examples, 1)[0] - found).max() < 1e-5
    module = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    task = run.experiment.tasks["mrpc"]
    ids = tokenizer.convert_tokens_to_ids(["bad", "good"])
    for row, feature in enumerate(featurize_in_memory(examples, task.featurizer, run.tokenizer, ["0", "1"]).features):
        assert feature["input_ids"].count(tokenizer.mask_token_id) == 1
        with torch.no_grad():
            logits = module(torch.tensor([feature["input_ids"]])).logits[
                0, feature["input_ids"].index(tokenizer.mask_token_id)
            ]
        assert np.abs(logits[ids].numpy() - found[row]).max() < 1e-5


def test_the_words_of_a_mask_must_be_single_tokens(model_folder: Callable[..., Path]) -> None:
    run, examples = make_run(model_folder(auto_class="AutoModelForMaskedLM"), "rank_mask")
    with pytest.raises(Claf2Error, match="the word 'No' is not a single token of this model, but"):
        scores(run, examples, 6)


def test_a_model_without_its_decoder_cannot_rank(model_folder: Callable[..., Path]) -> None:
    run, _ = make_run(model_folder(), "rank_mask", "--label_words", '{"0": "bad", "1": "good"}')
    with pytest.raises(ModelError, match="weights of its decoder are missing"):
        run.model()
