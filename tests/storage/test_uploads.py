"""Runs that upload what they keep: to servers that work, and to servers that are down, silent, or refuse."""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pretraining_runs import outcome, train_until
from storage_servers import BUCKET, KEY, SECRET, Proxy, S3Server

import claf2
from claf2.cli.main import main
from claf2.data.samples import generate
from claf2.errors import ConfigError, Interrupted
from claf2.storage.checkpoints import list_checkpoints, push_checkpoint
from claf2.storage.uploader import Uploader, UploadOutbox
from claf2.task import tasks

ARCHITECTURE = {
    "model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 48,
}  # fmt: skip
PHASES = [{"until": 12, "batch_size": 8, "max_seq_length": 24}]

DENIED = b"<Error><Code>AccessDenied</Code></Error>"
FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(DENIED), DENIED)
FULL = b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text file with 200 documents of a few sentences."""
    path, task = tmp_path_factory.mktemp("corpus") / "corpus.txt", tasks.get("corpus_mlm")
    task.reader.write(generate(task, "train", 200), path)
    return path


@pytest.fixture
def load(corpus_file: Path, tmp_path: Path) -> Callable[..., claf2.Experiment]:
    """Load a pre-training of 12 steps that keeps and evaluates every 4, with a block ``store`` if one is given."""

    def load(*words: str, run: str = "run", **store: Any) -> claf2.Experiment:
        given = [
            "--sources", json.dumps([{"path": str(corpus_file)}]), "--valid_documents", "20", "--shard_bytes", "8192",
            "--window", "2", "--architecture", json.dumps(ARCHITECTURE), "--vocab_size", "500",
            "--trainer.pretrain.phases", json.dumps(PHASES), "--eval_and_save_step_count", "4",
            "--keep_step_count", "4", "--device", "cpu", "--log_dir", str(tmp_path / run),
            "--runtime.callbacks.tensorboard", "null",
        ]  # fmt: skip
        if store:
            given += ["--runtime.callbacks.store", json.dumps(store)]
        return claf2.load("scratch/pretrain", argv=[*given, *words])

    return load


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What is logged."""
    monkeypatch.setattr(logging.getLogger("claf2"), "propagate", True)
    caplog.set_level(logging.INFO, logger="claf2")
    return caplog


def run_main(command: str) -> int:
    """Run a command, and return its exit code."""
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(command)[1:])
    return int(caught.value.code or 0)


def steps_in(url: str) -> list[int]:
    """Return the steps of the checkpoints at a URL."""
    return [checkpoint.step for checkpoint in list_checkpoints(url)]


def test_a_run_uploads_what_it_keeps_and_is_resumed_from_there(
    url: str, load: Callable[..., claf2.Experiment], tmp_path: Path
) -> None:
    claf2.train(load(url=url, resumable=True))
    assert steps_in(url) == [4, 8, 12]
    assert UploadOutbox(tmp_path / "run/steps").waiting() == []
    assert run_main(f"claf2 pull {shlex.quote(url)}/step-000000004 --run {tmp_path}/again") == 0
    claf2.train(load(run="again", url=url, resumable=True), resume=True)
    assert outcome(tmp_path / "again") == outcome(tmp_path / "run")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("trouble", ["down", "silent", "forbidden", "full"])
def test_trouble_with_the_store_ends_no_run_and_is_reported_once(
    trouble: str, proxy: Proxy, load: Callable[..., claf2.Experiment], tmp_path: Path, log: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("claf2.storage.objects.RETRIES", 0)
    url, endpoint = f"s3://{BUCKET}/trouble/{trouble}", os.environ["AWS_ENDPOINT_URL"]
    if trouble == "down":
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    proxy.is_silent = trouble == "silent"
    proxy.answer = {"forbidden": FORBIDDEN, "full": FULL}.get(trouble)
    claf2.train(load(url=url, flush_seconds=0.5))
    problems = {"down": "cannot be reached", "forbidden": "refuses (403", "full": "507 Insufficient Storage"}
    warnings = [record.getMessage() for record in log.records if record.levelno >= logging.WARNING]
    *first, last = warnings
    assert last.startswith(f"3 checkpoints are not uploaded; send them with claf2 push {tmp_path}/run {url}, or resume")
    assert len(first) == (trouble != "silent")  # nothing is known yet of a server that has not answered
    assert all(problems[trouble] in line and "the run continues" in line for line in first)
    # What could not be sent is sent later, even if the run has deleted it since.
    (tmp_path / "run/steps/step-000000004/model.safetensors").unlink()
    proxy.is_silent, proxy.answer = False, None
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert len(UploadOutbox(tmp_path / "run/steps").waiting()) == 3
    (tmp_path / "run/steps/step-000000004/manifest.json").unlink()
    assert run_main(f"claf2 push {tmp_path}/run {url}") == 0
    assert steps_in(url) == [4, 8, 12]
    assert UploadOutbox(tmp_path / "run/steps").waiting() == []
    found = [path for path in tmp_path.rglob("*") if path.is_file() and (SECRET in (text := read(path)) or KEY in text)]
    assert found == []
    assert KEY not in log.text
    assert SECRET not in log.text


def read(path: Path) -> str:
    """Return the bytes of a file as a text."""
    return path.read_bytes().decode("latin-1")


def test_a_resumed_run_sends_what_it_has_not_sent(
    moto: S3Server, keys: None, load: Callable[..., claf2.Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"s3://{BUCKET}/resumed-run"
    monkeypatch.setattr("claf2.storage.objects.RETRIES", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(Interrupted):
        train_until(load(url=url, flush_seconds=0), 9, monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.endpoint)
    assert [path.name for path in UploadOutbox(tmp_path / "run/steps").waiting()] == [
        ".step-000000004.upload", ".step-000000008.upload",
    ]  # fmt: skip
    claf2.train(load(url=url, retain_last=2), resume=True)
    assert steps_in(url) == [8, 12]
    claf2.train(load(run="plain"))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "plain")


def test_the_block_is_no_part_of_the_experiment(load: Callable[..., claf2.Experiment]) -> None:
    plain, stored = load(), load(url="s3://bucket/run")
    assert plain.recipe_digest() == stored.recipe_digest()
    assert plain.digest() == stored.digest()


@pytest.mark.parametrize(
    ("url", "problem"),
    [("https://host/run", "an http server can only be read"), ("s3://a:b@bucket/run", "must not contain keys")],
    ids=["http", "keys"],
)
def test_a_wrong_url_is_refused_before_the_first_step(
    url: str, problem: str, load: Callable[..., claf2.Experiment], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        claf2.train(load(url=url))
    assert str(caught.value).startswith("runtime.callbacks.store.url: ")
    assert not (tmp_path / "run").exists()


def test_the_queue_is_bounded(
    keys: None, make_step: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("claf2.storage.objects.RETRIES", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    uploader = Uploader("s3://bucket/run", max_waiting=2)
    outbox = UploadOutbox(make_step(1).parent)
    for step in range(1, 6):
        uploader.add(outbox.add(make_step(step), {}))
        if step == 1:
            shutil.rmtree(outbox.waiting()[0].with_name("step-000000001"))  # what a run deletes is not lost
    left = uploader.close(0)
    assert {path.name for path in outbox.waiting()} == {path.name for path in left} | {".step-000000001.upload"}
    assert 2 <= len(left) <= 3  # one may be on its way
    assert len([line for line in log.messages if "not uploaded, since 2 later checkpoints wait" in line]) == 5 - len(
        left
    )


def test_another_checkpoint_of_the_step_is_reported_and_not_tried_again(
    url: str, make_step: Callable[..., Path], log: pytest.LogCaptureFixture
) -> None:
    push_checkpoint(make_step(), url)
    uploader = Uploader(url)
    uploader.add(make_step(folder="other", **{"config.json": b"other"}))
    assert uploader.close(30) == []
    assert "holds another checkpoint of this step; use another URL for each run; it is not uploaded" in log.text


def test_commands(
    s3_url: str, server: S3Server, make_step: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (100, 200):
        make_step(step)
    steps = tmp_path / "run/steps"
    steps.parent.mkdir()
    (tmp_path / "steps").rename(steps)
    assert run_main(f"claf2 push {tmp_path}/run {s3_url}") == 0
    assert capsys.readouterr().out.split() == [f"{s3_url}/step-000000100", f"{s3_url}/step-000000200"]
    assert run_main(f"claf2 ls {s3_url}") == 0
    output = capsys.readouterr()
    assert [line.split()[0] for line in output.out.splitlines()] == ["100", "200"]
    assert ("this server overwrites objects" in output.err) is not server.creates_exclusively
    assert run_main(f"claf2 ls {s3_url} --json") == 0
    assert json.loads(capsys.readouterr().out)["creates_exclusively"] is server.creates_exclusively
    assert run_main(f"claf2 pull {s3_url}/step-000000100 --to {tmp_path}/here") == 0
    assert (tmp_path / "here/model.bin").read_bytes() == (steps / "step-000000100/model.bin").read_bytes()
    assert run_main(f"claf2 pull {s3_url}/step-000000300") == 2
    assert run_main(f"claf2 pull {s3_url}/step-000000100 --run {tmp_path}/again") == 2
    assert "nothing to resume from is stored with it" in capsys.readouterr().err


@pytest.fixture
def public_url(moto: S3Server) -> Iterator[str]:
    """A URL on `moto_server` below which everybody may read."""
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{BUCKET}/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]}).encode()
    request = urllib.request.Request(f"{moto.endpoint}/{BUCKET}?policy", data=policy, method="PUT")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request):
        pass
    yield f"s3://{BUCKET}/public"
    with urllib.request.urlopen(urllib.request.Request(f"{moto.endpoint}/{BUCKET}?policy", method="DELETE")):
        pass


def test_a_public_archive_and_a_checkpoint_are_models(
    moto: S3Server, keys: None, public_url: str, model_folder: Callable[..., Path], make_step: Callable[..., Path],
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.endpoint)
    model = model_folder()
    step = make_step(7, **{path.name: path.read_bytes() for path in model.iterdir()})
    push_checkpoint(step, public_url)
    assert run_main(f"claf2 push {model} {public_url}/model.tar.gz") == 0
    (archive,) = capsys.readouterr().out.split()
    assert archive == f"{moto.endpoint}/{BUCKET}/public/model.tar.gz"
    sources = [str(model), archive, f"{public_url}/model.tar.gz", f"{public_url}/step-000000007"]
    sources += [f"{moto.endpoint}/{BUCKET}/public/step-000000007"]
    losses = set()
    for number, source in enumerate(sources):
        words = ["--num_steps", "2", "--log_dir", str(tmp_path / f"tuned{number}"), "--pretrained_model_name", source]
        claf2.train(claf2.load("scratch/nsmc", sample=True, argv=[*words, "--device", "cpu"]))
        losses.add((tmp_path / f"tuned{number}/best/model.safetensors").read_bytes())
    assert len(losses) == 1


def test_what_is_not_public_is_said_to_be_refused(
    moto: S3Server, keys: None, make_step: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from claf2.models.source import resolve_model

    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.endpoint)
    push_checkpoint(make_step(7), f"s3://{BUCKET}/private")
    with pytest.raises(claf2.Claf2Error, match="the server refuses"):
        resolve_model(f"{moto.endpoint}/{BUCKET}/private/step-000000007", cache=tmp_path)
