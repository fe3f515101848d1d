"""The documented commands, as processes: what they print, what they leave behind, how they end."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from claf2.cli.main import main
from claf2.task import shipped_dir

TRAIN, EVALUATE = (shipped_dir("tasks").parent / name for name in ("train.py", "evaluate.py"))
CLAF2 = [sys.executable, "-c", "from claf2.cli.main import main; main()"]


def call(*words: object, cwd: Path, code: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command in a folder and check how it ends."""
    command = [str(word) for word in words]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, input=stdin, check=False)
    assert done.returncode == code, done.stderr
    return done


def claf2(*words: object, cwd: Path, code: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return call(*CLAF2, *words, cwd=cwd, code=code, stdin=stdin)


def squad_file(path: Path, count: int) -> None:
    """Write a small file of KorQuAD's form."""
    context = "서울 은 도시 이다 . 부산 은 도시 이다"
    answers = [{"text": "서울", "answer_start": 0}, {"text": "부산", "answer_start": 13}]
    questions = [
        {"id": f"{path.stem}-{n}", "question": "도시 는 어디", "answers": [answers[n % 2]]} for n in range(count)
    ]
    assert context[13:15] == "부산"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "version": "KorQuAD_v1.0",
        "data": [{"title": "t", "paragraphs": [{"context": context, "qas": questions}]}],
    }
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


@pytest.fixture
def workplace(tmp_path: Path, model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with KorQuAD's files, small, and a model in it."""
    monkeypatch.delenv("CLAF2_DATA_DIR", raising=False)
    squad_file(tmp_path / "korquad/KorQuAD_v1.0_train.json", 36)
    squad_file(tmp_path / "korquad/KorQuAD_v1.0_dev.json", 8)
    shutil.copytree(model_folder(), tmp_path / "X")
    return tmp_path


def test_the_line_itself_and_its_folder(workplace: Path) -> None:
    """python train.py --base_config klue/korquad_bert --bert_for_qa.pretrained_model_name X"""
    done = call(
        sys.executable, TRAIN, "--base_config", "klue/korquad_bert", "--bert_for_qa.pretrained_model_name", "X",
        cwd=workplace,
    )  # fmt: skip
    folder = workplace / "logs/klue/korquad"
    logs = json.loads((folder / "metrics.json").read_text())
    assert set(logs) == {"best_epoch", "best_global_step", "best", "best_score", "metric_key"}
    assert (logs["best_global_step"], logs["metric_key"]) == (15, "f1")
    assert logs["best_score"] == logs["best"]["valid/f1"]
    assert f'"best_score": {logs["best_score"]}' in done.stderr
    assert done.stdout.startswith("valid/f1: ")
    entry = json.loads((folder / "run.json").read_text())
    assert entry["overrides"] == ["--bert_for_qa.pretrained_model_name", "X"]
    assert {
        "recipe",
        "data",
        "tokenizer",
        "versions",
        "device",
        "seed",
        "wall_seconds",
        "train_seconds",
    } <= entry.keys()
    assert entry["rows_per_second"] > 0
    assert entry["peak_memory_mib"] > 100
    names = {path.name.split(".")[0] if "tfevents" in path.name else path.name for path in folder.iterdir()}
    assert names == {
        ".lock", "README.md", "best", "config.json", "events", "last", "metrics.json", "metrics.jsonl", "predictions",
        "run.json", "train.log",
    }  # fmt: skip
    lines = [json.loads(line) for line in (folder / "predictions/korquad-valid.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"KorQuAD_v1.0_dev-{n}" for n in range(8)]
    assert lines[0]["gold"] == ["서울"]

    evaluated = call(sys.executable, EVALUATE, folder, cwd=workplace)
    assert evaluated.stdout == done.stdout
    again = {name: value for name, value in logs["best"].items() if name != "train/loss"}
    assert json.loads((folder / "evaluation.json").read_text()) == again
    on_file = call(sys.executable, EVALUATE, folder, "korquad/KorQuAD_v1.0_train.json", cwd=workplace)
    assert on_file.stdout.startswith("eval/f1: ")
    assert len((folder / "predictions/korquad-eval.jsonl").read_text().splitlines()) == 36

    one = claf2("predict", folder, "--question", "도시 는 어디", "--context", "서울 은 도시 이다", cwd=workplace)
    assert json.loads(one.stdout)["prediction"] in "서울 은 도시 이다"
    requests = "".join(
        json.dumps({"question": "어디", "context": "부산 은 도시", "id": str(n)}) + "\n" for n in range(2)
    )
    many = claf2("predict", folder, cwd=workplace, stdin=requests)
    assert [json.loads(line)["id"] for line in many.stdout.splitlines()] == ["0", "1"]
    wrong = claf2("predict", folder, "--text", "x", cwd=workplace, code=2)
    assert wrong.stderr == "error: a request needs question and context; got: text\n"


CLAF = """
{
  "data_reader": {
    "dataset": "squad_bert",
    "train_file_path": "korquad/train.json",
    "valid_file_path": "korquad/dev.json",
    "squad_bert": {"lang_code": "ko", "max_seq_length": 512, "context_stride": 128, "max_question_length": 64}
  },
  "iterator": {"batch_size": 12},
  "token": {
    "names": ["feature"], "types": ["feature"],
    "tokenizer": {
      "subword": {"name": "wordpiece", "wordpiece": {"vocab_path": "kor_32k_v1_vocab.txt"}},
      "word": {"name": "bert_basic", "bert_basic": {"do_lower_case": false}}
    },
    "feature": {
      "vocab": {"pretrained_path": "kor_32k_v1_vocab.txt", "pretrained_token": "all"},
      "indexer": {"do_tokenize": false}
    }
  },
  "model": {
    "name": "bert_for_qa",
    "bert_for_qa": {"pretrained_model_name": "larva-kor-small-cased", "answer_maxlen": 30}
  },
  "trainer": {"log_dir": "logs/klue/korquad", "num_epochs": 5, "early_stopping_threshold": 10, "metric_key": "f1",
              "verbose_step_count": 100, "eval_and_save_step_count": 1000},
  "optimizer": {"learning_rate": 3e-5, "op_type": "adamw", "adamw": {"weight_decay": 0.01},
                "lr_scheduler_type": "warmup_linear", "warmup_linear": {"warmup_proportion": 0.1}},
  "seed_num": 42
}
"""


@pytest.mark.slow
def test_a_claf_config_trains_as_it_stands(workplace: Path) -> None:
    (workplace / "korquad/KorQuAD_v1.0_train.json").rename(workplace / "korquad/train.json")
    (workplace / "korquad/KorQuAD_v1.0_dev.json").rename(workplace / "korquad/dev.json")
    (workplace / "X").rename(workplace / "larva-kor-small-cased")
    shutil.move(workplace / "larva-kor-small-cased/vocab.txt", workplace / "kor_32k_v1_vocab.txt")
    (workplace / "larva-kor-small-cased/tokenizer.json").unlink()
    (workplace / "claf.json").write_text(CLAF)
    done = call(sys.executable, TRAIN, "--base_config", "claf.json", cwd=workplace)
    assert done.stdout.startswith("valid/f1: ")
    assert json.loads((workplace / "logs/klue/korquad/metrics.json").read_text())["best_global_step"] == 15
    again = call(sys.executable, EVALUATE, "logs/klue/korquad", cwd=workplace)
    assert again.stdout == done.stdout


@pytest.mark.slow
def test_a_model_from_an_archive_and_a_classifier_that_answers(workplace: Path) -> None:
    with tarfile.open(workplace / "m.tar.gz", "w:gz") as tar:
        tar.add(workplace / "X", "inner")
    words = ["--sample", "--pretrained_model_name", "m.tar.gz", "--token", "null", "--num_steps", "3"]
    call(sys.executable, TRAIN, "--base_config", "scratch/nsmc", *words, cwd=workplace)
    answers = claf2("predict", "logs/scratch/nsmc", cwd=workplace, stdin="the film\nvery good\n")
    assert {json.loads(line)["prediction"] for line in answers.stdout.splitlines()} <= {"0", "1"}
    broken = workplace / "cut.tar.gz"
    broken.write_bytes((workplace / "m.tar.gz").read_bytes()[:2000])
    done = call(
        sys.executable, TRAIN, "--base_config", "scratch/nsmc", *words, "--pretrained_model_name", "cut.tar.gz",
        "--log_dir", "l2", cwd=workplace, code=2,
    )  # fmt: skip
    assert "archive" in done.stderr.splitlines()[-1]


MISTAKES: list[tuple[list[str], str]] = [
    (
        ["--learning_rat", "1"],
        "learning_rat: no such field (from command line); did you mean 'optimizer.learning_rate'?",
    ),
    (["--train_file_path", "no.json"], "no.json: no such file; set --data_dir, or download korquad from"),
    (["--warmup_linear.warmup_steps", "999"], "999 warm-up steps in a run of 15"),
    (["--pretrained_model_name", "./nowhere"], "model ./nowhere: no such file or folder"),
    (["--max_seq_length", "4096"], "data_reader.korquad.max_seq_length: 4096 exceeds the 514 positions of X"),
    (["--valid_file_path", "empty.json"], "empty.json: contains no example"),
    (["--valid_file_path", "bad.json"], "bad.json:1: not valid JSON"),
    (
        ["--metric_key", "accuracy"],
        "trainer.metric_key: 'accuracy' is not a score of this task (from command line --metric_key); valid: best_em, "
        "best_f1, best_f1_threshold, em, f1, has_ans_em, has_ans_f1, loss, no_ans_em, no_ans_f1",
    ),
    (["--device", "cuda:64"], "runtime.device: 'cuda:64' is not a device of this machine"),
    (["--source", "hub", "--hub", "x"], "hub: no such field"),
    (
        ["--log_dir", "empty.json/run"],
        "cannot be used as the folder of a run: Not a directory; give another one with --log_dir",
    ),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_mistakes_are_one_line_and_exit_code_two(
    words: list[str],
    message: str,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (workplace / "empty.json").write_text('{"data": []}')
    (workplace / "bad.json").write_text('{"data": [')
    model = ["--pretrained_model_name", "X"] if "--pretrained_model_name" not in words else []
    monkeypatch.chdir(workplace)
    for name in ("handlers", "propagate", "level"):  # `main` sets them for its process
        monkeypatch.setattr(logging.getLogger("claf2"), name, getattr(logging.getLogger("claf2"), name))
    with pytest.raises(SystemExit) as ended:
        main(["train", "--base_config", "klue/korquad_bert", *model, *words])
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last


def test_listings_answer_without_torch_and_at_once(tmp_path: Path) -> None:
    started = time.monotonic()
    assert "Fine-tune language encoders" in claf2("--help", cwd=tmp_path).stdout
    assert "korquad          ko  span      squad" in claf2("tasks", "list", cwd=tmp_path).stdout
    assert json.loads(claf2("tasks", "show", "rte", cwd=tmp_path).stdout)["labels"] == ["entailment", "not_entailment"]
    assert "klue/korquad_bert" in claf2("config", "list", cwd=tmp_path).stdout.splitlines()
    assert time.monotonic() - started < 40  # four processes on a machine that may be busy; torch alone would be more


@pytest.mark.smoke
def test_config_commands(tmp_path: Path) -> None:
    shown = claf2("config", "show", "glue/rte_bert", "--learning_rate", "3e-5", cwd=tmp_path).stdout
    assert "# command line --learning_rate" in shown
    (tmp_path / "x.json").write_text(claf2("config", "show", "glue/rte_bert", "--json", cwd=tmp_path).stdout)
    assert claf2("config", "validate", "x.json", cwd=tmp_path).stdout == "x.json: ok\n"
    (tmp_path / "y.json").write_text((tmp_path / "x.json").read_text().replace("2e-05", '"two"'))
    assert (
        "optimizer.learning_rate: 'two'" in claf2("config", "validate", "x.json", "y.json", cwd=tmp_path, code=2).stderr
    )
    diff = claf2("config", "diff", "glue/rte_bert", "glue/mrpc_bert", cwd=tmp_path).stdout
    assert "trainer.num_epochs: 3 -> 5" in diff
    assert json.loads(claf2("config", "schema", cwd=tmp_path).stdout)["title"] == "BaseConfig"


def test_ctrl_c_saves_and_a_second_one_ends_at_once(workplace: Path) -> None:
    words = ["--base_config", "klue/korquad_bert", "--pretrained_model_name", "X", "--num_epochs", "5000"]
    words += ["--verbose_step_count", "1"]
    process = subprocess.Popen([sys.executable, str(TRAIN), *words], cwd=workplace, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "Step: 2/" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "and saved logs/klue/korquad; add --resume to continue" in errors
    assert (workplace / "logs/klue/korquad/last/shard-00001-model-00001-of-00001.safetensors").is_file()


PLUGIN = '''
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
import torch
from claf2 import Task, register_task
from claf2.heads import Head, TextFeaturizer, register_head, text_request
from claf2.metrics import Metric, Prediction, register_metric
from claf2.heads.networks import EncoderNetwork
from claf2.readers import Reader, TextExample, register_reader

@register_reader("pipes")
class Pipes(Reader):
    """text|label"""
    def read(self, path: Path):
        for line, row in enumerate(path.read_text().splitlines(), start=1):
            text, label = row.split("|")
            yield TextExample(id=str(line), line=line, text_a=text, label=label)
    def write(self, examples, path): raise NotImplementedError

@register_metric("halves")
class Halves(Metric):
    """Half the accuracy."""
    selects: ClassVar[str] = "halves"
    def compute(self, predictions, labels):
        return {"halves": 50.0 * sum(p.gold == p.prediction for p in predictions) / len(predictions)}

class MeanFeaturizer(TextFeaturizer):
    """As they come."""
    def target(self, label, labels): return labels.index(label)

class Mean(EncoderNetwork):
    """Mean of the hidden states, one linear layer."""
    def __init__(self, config):
        super().__init__(config)
        self.out = torch.nn.Linear(config.hidden_size, config.mean_width)
        self.post_init()
    def forward(self, input_ids, attention_mask, token_type_ids=None, labels=None):
        hidden = self.hidden(input_ids, attention_mask)
        mask = attention_mask.unsqueeze(-1)
        return self.out((hidden * mask).sum(1) / mask.sum(1))

@register_head("mean")
class MeanHead(Head):
    """Classifies by the mean of the hidden states."""
    featurizer = MeanFeaturizer
    width: int = 2
    def configure(self, config, labels): config.mean_width = self.width
    def network(self): return Mean
    def weight(self, batch): return float(len(batch["labels"]))
    def loss(self, outputs, batch): return torch.nn.functional.cross_entropy(outputs, batch["labels"], reduction="sum")
    def collect(self, outputs): return {"best": outputs.argmax(-1)}
    def predict(self, collected):
        pairs = zip(collected.examples, collected.outputs)
        return [Prediction(e.id, e.label, collected.labels[int(row["best"])]) for e, row in pairs]
    def request(self, values): return text_request(values)

register_task(Task(name="pipe_task", language="en", head="mean", labels=("bad", "good"), reader=Pipes(),
                   metrics=("halves",), files={"train": "train.txt", "valid": "train.txt"}))
'''


@pytest.fixture
def pipes(workplace: Path) -> Path:
    (workplace / "train.txt").write_text("".join(f"{w} film|{w}\n" for w in ("good", "bad") * 20))
    config = {
        "data_reader": {"dataset": "pipe_task", "pipe_task": {"max_seq_length": 16}},
        "model": {"name": "encoder", "encoder": {"pretrained_model_name": "X", "width": 2}},
        "optimizer": {"learning_rate": 0.01},
        "trainer": {"log_dir": "logs/pipes", "num_epochs": 4},
    }
    (workplace / "pipes.json").write_text(json.dumps(config))
    return workplace


def test_a_plug_in_file_brings_reader_head_metric_and_task(pipes: Path) -> None:
    (pipes / "my_plugin.py").write_text(PLUGIN)
    done = call(sys.executable, TRAIN, "--plugin", "my_plugin.py", "--base_config", "pipes.json", cwd=pipes)
    assert done.stdout.splitlines()[0] == "valid/halves: 50.0000"
    stored = json.loads((pipes / "logs/pipes/config.json").read_text())
    assert stored["plugins"] == [str(pipes / "my_plugin.py")]
    elsewhere = pipes / "elsewhere"
    elsewhere.mkdir()
    again = claf2("predict", pipes / "logs/pipes", "--text", "good film", cwd=elsewhere)
    assert '"prediction"' in again.stdout
    missing = call(sys.executable, TRAIN, "--plugin", "no.py", "--base_config", "pipes.json", cwd=pipes, code=2)
    assert missing.stderr == f"error: plug-in '{pipes / 'no.py'}': no such file\n"
    unknown = call(sys.executable, TRAIN, "--base_config", "pipes.json", cwd=pipes, code=2)
    assert "data_reader.dataset: task 'pipe_task' is not registered" in unknown.stderr


@pytest.mark.slow
def test_a_plug_in_is_found_beside_its_base_config_and_by_an_override(pipes: Path) -> None:
    folder = pipes / "configs"
    folder.mkdir()
    (folder / "my_plugin.py").write_text(PLUGIN)
    config = json.loads((pipes / "pipes.json").read_text())
    (folder / "pipes.json").write_text(json.dumps(config | {"plugins": ["my_plugin.py"]}))
    beside = claf2("config", "show", "configs/pipes.json", "--json", cwd=pipes)
    overridden = claf2("config", "show", "pipes.json", "--json", "--plugins", '["configs/my_plugin.py"]', cwd=pipes)
    for shown in (beside, overridden):
        assert json.loads(shown.stdout)["plugins"] == [str(folder / "my_plugin.py")]
    mistyped = claf2("config", "show", "pipes.json", "--plugins", "configs/my_plugin.py", cwd=pipes, code=2)
    assert "plugins: 'configs/my_plugin.py' is not a list of names" in mistyped.stderr


@pytest.mark.slow
def test_an_installed_package_brings_them_through_its_entry_point(pipes: Path, tmp_path: Path) -> None:
    package = tmp_path / "outside"
    (package / "outside_claf2").mkdir(parents=True)
    (package / "outside_claf2/__init__.py").write_text(PLUGIN)
    (package / "setup.py").write_text(
        textwrap.dedent("""
            from setuptools import setup
            setup(name="outside-claf2", version="1", packages=["outside_claf2"],
                  entry_points={"claf2.plugins": ["outside = outside_claf2"]})
        """)
    )
    target = tmp_path / "site"
    words = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", target, package]
    call(sys.executable, *words, cwd=tmp_path)
    code = f"import sys; sys.path.insert(0, {str(target)!r}); from claf2.cli.main import main; main()"
    listed = call(sys.executable, "-c", code, "tasks", "list", cwd=pipes)
    assert "pipe_task        en  mean      halves" in listed.stdout
    done = call(sys.executable, "-c", code, "train", "--base_config", "pipes.json", cwd=pipes)
    assert done.stdout.splitlines()[0] == "valid/halves: 50.0000"


def test_no_colour_no_bar_in_a_pipe(workplace: Path) -> None:
    words = ["--base_config", "klue/korquad_bert", "--pretrained_model_name", "X", "--num_steps", "2"]
    done = call(sys.executable, TRAIN, *words, cwd=workplace)
    assert "\r" not in done.stderr
    assert "\x1b" not in done.stderr
    assert os.listdir(workplace / "logs/klue/korquad/predictions") == ["korquad-valid.jsonl"]


@pytest.mark.slow
def test_several_validation_sets_another_task_and_hidden_labels(workplace: Path) -> None:
    """MNLI: both development sets in one run, the diagnostic set and KLUE NLI's sibling judged by its model."""
    words = ["--base_config", "glue/mnli_bert", "--sample", "--pretrained_model_name", "X", "--num_steps", "2"]
    claf2("train", *words, "--log_dir", "run", cwd=workplace)
    best = json.loads((workplace / "run/metrics.json").read_text())["best"]
    assert {"valid/accuracy", "valid_mismatched/accuracy"} <= best.keys()
    assert (workplace / "run/predictions/mnli-valid_mismatched.jsonl").is_file()
    counts = json.loads((workplace / "run/run.json").read_text())["counts"]
    assert counts["valid"]["in_train"] == 0
    assert counts["train"]["examples"] == 1500
    assert "- valid_mismatched: examples 200" in (workplace / "run/README.md").read_text()

    (workplace / "ax.tsv").write_text("index\tsentence1\tsentence2\n0\tthe film\ta dog\n")
    done = claf2("evaluate", "run", "ax.tsv", "--task", "ax", cwd=workplace)
    assert "the data has no labels; predictions are in run/predictions" in done.stdout
    (line,) = (workplace / "run/predictions/ax-eval.jsonl").read_text().splitlines()
    assert json.loads(line)["prediction"] in ("entailment", "neutral", "contradiction")
    (workplace / "nli.tsv").write_text("sentence1\tsentence2\tgold_label\nthe film\ta dog\tneutral\n")
    assert "eval/accuracy" in claf2("evaluate", "run", "nli.tsv", "--task", "kornli", cwd=workplace).stdout
    refused = claf2("evaluate", "run", "nli.tsv", "--task", "rte", cwd=workplace, code=2).stderr
    assert "a run of 'mnli' cannot be evaluated on task 'rte'" in refused


@pytest.mark.slow
def test_a_bench_from_the_command_line(workplace: Path) -> None:
    words = ["bench", "run", "--suite", "jlue", "--models", "X", "--tasks", "jcola,jcommonsenseqa", "--seeds", "1-2"]
    words += ["--sample", "--num_steps", "2"]
    done = claf2(*words, cwd=workplace)
    assert "| X, bert --num_steps 2 --data_reader.source sample (2 seeds) |" in done.stdout
    assert "*Waseda RoBERTa large s512*" in done.stdout
    again = claf2(*words, cwd=workplace)
    assert again.stdout == done.stdout
    assert "Step:" not in again.stderr
    failed = claf2("bench", "run", "--suite", "glue", "--models", "X", "--tasks", "rte", cwd=workplace, code=2)
    assert "- X, rte, seed 1: " in failed.stdout
    assert "[3/3] 0 running" in failed.stderr
    assert (
        "--seeds x: neither numbers"
        in claf2("bench", "run", "--suite", "glue", "--models", "X", "--seeds", "x", cwd=workplace, code=2).stderr
    )
    assert "nothing to measure" in claf2("bench", "run", "--suite", "glue", cwd=workplace, code=2).stderr
    assert "larva_klue" in claf2("suite", "list", cwd=workplace).stdout
    assert "has no format for submissions" in claf2("suite", "submit", "klue", cwd=workplace, code=2).stderr


@pytest.mark.parametrize(("words", "request_"), [
    (["--text", "- the film was bad, of all"], {"text": "- the film was bad, of all"}),
    (["--text", "-10", "--text_b", "-"], {"text": "-10", "text_b": "-"}),
    (["--text=- a", "--text_b", "-- b"], {"text": "- a", "text_b": "-- b"}),
    (["--text", ""], {"text": ""}),
    (["--task", "-x", "--text", "-o"], {"text": "-o"}),
])  # fmt: skip
def test_texts_may_begin_with_a_hyphen(
    words: list[str], request_: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("claf2.export.predictor.Predictor", lambda *_: lambda **fields: fields)
    monkeypatch.setattr("claf2.evaluation.predictions.to_json_line", json.dumps)
    with pytest.raises(SystemExit) as ended:
        main(["predict", "run", *words])
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out) == request_


@pytest.mark.parametrize("words", [["--text"], ["--text", "--"], ["--text", "--text_b", "x"]])
def test_a_field_without_a_value_is_refused(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("claf2.export.predictor.Predictor", lambda *_: lambda **fields: fields)
    with pytest.raises(SystemExit) as ended:
        main(["predict", "run", *words])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: text: has no value; write --text TEXT")


def test_help_is_asked_for_after_any_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["predict", "run", "--text", "-h"])
    assert not ended.value.code
    assert "Usage: claf2 predict" in capsys.readouterr().out


def test_a_file_that_ends_too_early_is_no_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    """click takes an EOFError for the end of the input, whatever was read."""

    def end(*_: object) -> None:
        raise EOFError

    monkeypatch.setattr("claf2.cli.main.claf2.invoke", end)
    with pytest.raises(EOFError):
        main(["tasks", "list"])
