"""Checkpoints in stores: all of a checkpoint or nothing, on two real S3 servers and in a folder."""

from __future__ import annotations

import json
import os
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from storage_servers import BUCKET, SECRET, Proxy, S3Server

from claf2.errors import RunError
from claf2.storage import checkpoints, leases
from claf2.storage.archive import write_archive
from claf2.storage.checkpoints import list_checkpoints, pull_checkpoint, push_checkpoint, upload_folder
from claf2.storage.leases import claim, creates_exclusively, known_exclusive, lease, live_leases, release
from claf2.storage.objects import ConflictError, NotStoredError, RemoteFolder, StorageError, open_folder, redact
from claf2.storage.retention import Retention, delete_superseded


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder but the digests of the cache."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "sha256.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_what_is_pushed_is_listed_and_pulled(url: str, make_step: Callable[..., Path], tmp_path: Path) -> None:
    assert list_checkpoints(url) == []
    large = make_step(200, **{"config.json": b"{}", "model.bin": os.urandom(9 << 20)})  # in two parts
    for folder in (large, make_step(100)):
        push_checkpoint(folder, url)
    first, second = list_checkpoints(url)
    assert (first.step, second.step) == (100, 200)
    assert second.url == f"{url}/step-000000200"
    assert second.manifest == json.loads((large / "manifest.json").read_text())
    assert files_of(pull_checkpoint(second.url, tmp_path / "cache")) == files_of(large)
    assert pull_checkpoint(f"{first.url}/나", tmp_path / "cache").name == "나"


def test_the_manifest_comes_last_and_is_not_replaced(url: str, make_step: Callable[..., Path]) -> None:
    step = make_step()
    push_checkpoint(step, url)
    push_checkpoint(step, url)
    other = make_step(folder="other", **{"config.json": b'{"a": 2}'})
    with pytest.raises(ConflictError, match="holds another checkpoint of this step; use another URL"):
        push_checkpoint(other, url)
    assert [checkpoint.manifest for checkpoint in list_checkpoints(url)] == [
        json.loads((step / "manifest.json").read_text())
    ]


def test_part_of_an_upload_is_not_seen(url: str, make_step: Callable[..., Path], tmp_path: Path) -> None:
    step, folder = make_step(), open_folder(url)
    folder.upload("step-000000100/model.bin", step / "model.bin", "0" * 64)
    assert list_checkpoints(url) == []
    with pytest.raises(StorageError, match=r"step-000000100: no complete checkpoint there; list them with claf2 ls"):
        pull_checkpoint(f"{url}/step-000000100", tmp_path / "cache")


def test_a_damaged_object_is_named_and_refused(url: str, make_step: Callable[..., Path], tmp_path: Path) -> None:
    push_checkpoint(make_step(), url)
    open_folder(url).write("step-000000100/model.bin", b"tampered")
    for _ in range(2):
        with pytest.raises(StorageError, match=r"step-000000100/model\.bin: damaged: its bytes are not those"):
            pull_checkpoint(f"{url}/step-000000100", tmp_path / "cache")
    open_folder(url).delete(["step-000000100/model.bin"])
    with pytest.raises(StorageError, match=r"model\.bin: missing, but the manifest names it"):
        pull_checkpoint(f"{url}/step-000000100", tmp_path / "cache")
    assert not any((tmp_path / "cache/models").glob("*"))


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "a/../../b", "manifest.json", "a\\b"], ids=["up", "root", "in", "own", "back"]
)
def test_a_manifest_cannot_name_files_elsewhere(name: str, tmp_path: Path) -> None:
    entry = {"size": 1, "sha256": "0" * 64}
    (tmp_path / "step-000000001").mkdir()
    (tmp_path / "step-000000001/manifest.json").write_text(json.dumps({"step": 1, "files": {name: entry}}))
    with pytest.raises(StorageError, match="is not a file of the checkpoint"):
        pull_checkpoint(str(tmp_path / "step-000000001"), tmp_path / "cache")
    assert list_checkpoints(str(tmp_path)) == []


def test_what_is_not_a_kept_checkpoint_is_not_pushed(make_step: Callable[..., Path], tmp_path: Path) -> None:
    step = make_step()
    with pytest.raises(RunError, match="not a kept checkpoint; name a folder such as RUN/steps/step-000100000"):
        push_checkpoint(step.parent, str(tmp_path / "store"))
    (step / "model.bin").write_bytes(b"short")
    with pytest.raises(RunError, match=r"model\.bin: missing or changed"):
        push_checkpoint(step, str(tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def test_only_what_is_missing_is_sent_again(
    proxy: Proxy, make_step: Callable[..., Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"s3://{BUCKET}/resumed/{request.node.name}"
    step = make_step(**{"a.bin": os.urandom(1 << 20), "b.bin": os.urandom(1 << 20), "config.json": b"{}"})
    entries = json.loads((step / "manifest.json").read_text())["files"]
    folder = open_folder(url)
    folder.upload("step-000000100/a.bin", step / "a.bin", entries["a.bin"]["sha256"])
    folder.upload("step-000000100/b.bin", step / "a.bin", entries["a.bin"]["sha256"])  # of the same size, but another
    before = proxy.sent
    push_checkpoint(step, url)
    assert 1 << 20 < proxy.sent - before < (1 << 20) + 50_000
    assert files_of(pull_checkpoint(f"{url}/step-000000100", tmp_path / "cache")) == files_of(step)
    before = proxy.sent
    push_checkpoint(step, url)
    assert proxy.sent - before < 5_000


def test_whether_a_server_creates_exclusively_is_found_out(server: S3Server, s3_url: str) -> None:
    folder = open_folder(s3_url)
    assert known_exclusive(folder) is None
    assert creates_exclusively(folder) is server.creates_exclusively
    assert known_exclusive(folder) is server.creates_exclusively
    leases._answers.clear()
    assert creates_exclusively(folder) is server.creates_exclusively


def test_one_of_two_writers_has_the_claim(url: str) -> None:
    folder, results = open_folder(url), {}
    barrier = threading.Barrier(2)

    def write(owner: str) -> None:
        barrier.wait()
        results[owner] = claim(folder, "step-000000001", owner, 60)

    threads = [threading.Thread(target=write, args=(owner,)) for owner in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results.values()) == [False, True]
    (winner,) = (owner for owner, has_it in results.items() if has_it)
    (loser,) = (owner for owner, has_it in results.items() if not has_it)
    assert claim(folder, "step-000000001", winner, 60)
    release(folder, "step-000000001", loser)
    assert not claim(folder, "step-000000001", loser, 60)
    release(folder, "step-000000001", winner)
    assert claim(folder, "step-000000001", loser, -5)  # it has ended already
    assert claim(folder, "step-000000001", winner, 60)


def test_a_claim_outlives_a_long_upload(
    make_step: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run may not write over a checkpoint that is uploaded for longer than a claim holds."""
    monkeypatch.setattr(checkpoints, "CLAIM_SECONDS", 0.4)
    url, first, other = str(tmp_path / "store"), make_step(), make_step(folder="other", **{"config.json": b"{2}"})
    folder, upload = open_folder(url), RemoteFolder.upload
    problems: list[Exception] = []

    def upload_slowly(remote: RemoteFolder, path: str, *arguments: Any) -> None:
        if not problems:
            time.sleep(1.2)
            with pytest.raises(StorageError, match="another process writes another checkpoint") as caught:
                upload_folder(other, folder, other.name, verify=True)
            problems.append(caught.value)
        upload(remote, path, *arguments)

    monkeypatch.setattr(RemoteFolder, "upload", upload_slowly)
    monkeypatch.setattr(checkpoints, "_for_all", lambda function, names: [function(name) for name in names])
    push_checkpoint(first, url)
    assert len(problems) == 1
    assert files_of(pull_checkpoint(f"{url}/{first.name}", tmp_path / "cache")) == files_of(first)


def test_what_another_process_wrote_before_the_claim_is_not_written_over(
    make_step: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, first, other = str(tmp_path / "store"), make_step(), make_step(folder="other", **{"config.json": b"{2}"})

    @contextmanager
    def claimed_late(*_: Any) -> Iterator[bool]:
        monkeypatch.undo()
        push_checkpoint(first, url)
        yield True

    monkeypatch.setattr(checkpoints, "claimed", claimed_late)
    with pytest.raises(ConflictError, match="holds another checkpoint of this step"):
        push_checkpoint(other, url)
    assert files_of(pull_checkpoint(f"{url}/{first.name}", tmp_path / "cache")) == files_of(first)


def test_an_archive_holds_the_files_that_links_lead_to(tmp_path: Path) -> None:
    """As in the folders of the hub's cache."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs/x").write_bytes(b"weights")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    for name in ("model.safetensors", "again.safetensors"):
        (tmp_path / "model" / name).symlink_to("../blobs/x")
    write_archive(tmp_path / "model", tmp_path / "model.tar.gz")
    with tarfile.open(tmp_path / "model.tar.gz") as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    names = ("model.safetensors", "again.safetensors")
    assert [(tmp_path / "unpacked" / name).read_bytes() for name in names] == [b"weights"] * 2


def test_retention_keeps_the_latest_the_best_and_multiples(url: str, make_step: Callable[..., Path]) -> None:
    for step in (10, 20, 30, 40, 50):
        push_checkpoint(make_step(step), url)
    deleted = delete_superseded(open_folder(url), Retention(last=1, every=40), lambda steps: 20)
    assert deleted == [10, 30]
    assert [checkpoint.step for checkpoint in list_checkpoints(url)] == [20, 40, 50]
    assert {entry.path.split("/")[0] for entry in open_folder(url).list("step-000000010")} == set()
    assert delete_superseded(open_folder(url), Retention(every=7)) == []


def test_a_checkpoint_with_a_lease_is_not_deleted(url: str, make_step: Callable[..., Path]) -> None:
    for step in (10, 20):
        push_checkpoint(make_step(step), url)
    folder = open_folder(url)
    with lease(f"{url}/step-000000010"), lease(f"{url}/step-000000010"):
        assert live_leases(folder, "step-000000010") == 2
        assert delete_superseded(folder, Retention(last=1)) == []
    folder.write("step-000000010/.leases/killed.json", b'{"seconds": 3600}')
    assert delete_superseded(folder, Retention(last=1)) == []
    folder.write("step-000000010/.leases/killed.json", b'{"seconds": -5}')
    assert delete_superseded(folder, Retention(last=1)) == [10]
    with (
        pytest.raises(StorageError, match="no such checkpoint; it may have been deleted"),
        lease(f"{url}/step-000000010"),
    ):
        pass


def test_a_lease_during_a_deletion_brings_the_checkpoint_back(
    url: str, make_step: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (10, 20):
        push_checkpoint(make_step(step), url)
    folder, answers = open_folder(url), iter([0, 1])
    monkeypatch.setattr("claf2.storage.retention.live_leases", lambda folder, path: next(answers))
    assert delete_superseded(folder, Retention(last=1)) == []
    assert [checkpoint.step for checkpoint in list_checkpoints(url)] == [10, 20]


def test_errors_say_what_to_do(
    server: S3Server, s3_url: str, make_step: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = make_step()
    with pytest.raises(StorageError, match="the bucket does not exist; create it first"):
        push_checkpoint(step, "s3://claf2-no-such-bucket/run")
    with pytest.raises(NotStoredError, match="nothing: no such object"):
        open_folder(s3_url).read("nothing")
    if server.name == "rclone":
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret-key")
        for call in (lambda: push_checkpoint(step, s3_url), lambda: list_checkpoints(s3_url)):
            with pytest.raises(
                StorageError, match=r"the server refuses \(403 Forbidden SignatureDoesNotMatch\); check"
            ):
                call()
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setattr("claf2.storage.objects.RETRIES", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StorageError, match=r"cannot be reached; check the address \(AWS_ENDPOINT_URL"):
        list_checkpoints(s3_url)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("s3://key:secret@bucket/run", "s3://bucket/run: the URL of a store must not contain keys"),
        ("https://host/run?X-Amz-Signature=abc", "https://host/run: the URL of a store must not contain keys"),
        ("ftp://host/run", "ftp://host/run: unknown kind of URL; use s3://"),
        ("s3://", "s3://: names no place; write s3://NAME/run"),
        ("s3:", "s3://: names no place; write s3://NAME/run"),
        ("file://", "file://: names no place; write file:///FOLDER"),
    ],
    ids=["user", "query", "scheme", "bucket", "slashes", "folder"],
)
def test_urls_that_are_refused(url: str, problem: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_folder(url)
    assert str(caught.value).startswith(problem)
    assert "secret@" not in str(caught.value)
    assert "abc" not in str(caught.value)


def test_keys_come_from_the_usual_files(rclone: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from storage_servers import KEY

    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "credentials").write_text(f"[mine]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
    (tmp_path / "config").write_text(f"[profile mine]\nendpoint_url = {rclone.endpoint}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    folder = open_folder(f"s3://{BUCKET}/from-files")
    folder.write("x", b"1")
    assert folder.read("x") == b"1"


def test_messages_hold_no_keys(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sv=2024&sig=abcdef")
    text = f"PUT https://host/a?X-Amz-Signature=0123 with {SECRET} and sv=2024&sig=abcdef failed"
    assert redact(text) == "PUT https://host/a?*** with *** and *** failed"


@pytest.mark.parametrize("endpoint", ["localhost", "http://", "http://a b", "http://host:99999"])
def test_an_endpoint_that_is_no_address_is_refused(endpoint: str, keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(StorageError, match="AWS_ENDPOINT_URL is not the address of a server"):
        open_folder("s3://bucket/run").list()


def test_a_file_in_the_place_of_a_folder_is_named(make_step: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for target in ("file", "file/inside"):
        with pytest.raises(StorageError, match=f"{target}: is not a folder; give another one"):
            push_checkpoint(make_step(4), str(tmp_path / target))


def test_what_names_no_checkpoint_names_the_command_that_lists_them(tmp_path: Path) -> None:
    for name, listed in (("run", "run"), ("run/step-000000004", "run")):
        with pytest.raises(StorageError, match=f"no complete checkpoint there; list them with claf2 ls {listed}$"):
            pull_checkpoint(name, tmp_path)


@pytest.mark.parametrize("command", [["ls", "nowhere"], ["push", "nowhere", "store"]], ids=["ls", "push"])
def test_a_folder_that_is_none_is_a_mistake(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from claf2.cli.main import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(command)
    assert caught.value.code == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
