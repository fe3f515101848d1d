"""Measures what uploads cost a training: ``python benchmarks/storage.py``.

Pre-trains a small encoder on generated text, in pairs of runs: one uploads every checkpoint that it keeps to
``rclone serve s3`` on this machine, the other one does not. The order changes from pair to pair, and each run is a
process of its own. Printed are two ratios of each pair and their medians: of the seconds that the run itself records
for its steps, and of the processor time of the whole process, which depends less on what else the machine does.
``--resumable`` uploads what the run is resumed from as well, ``--down`` uses a server that is not there.

The server shares the machine with the training, so that its own work counts as a cost too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KEY = "benchmark-key,benchmark-secret"


def main() -> None:
    """Run the pairs, and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--keep", type=int, default=30, help="steps between two checkpoints")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--resumable", action="store_true")
    parser.add_argument("--down", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, _server(Path(name)) as endpoint:
        folder, ratios, loads = Path(name), [], []
        for pair in range(options.pairs):
            measured = {}
            for stores in (True, False) if pair % 2 else (False, True):
                words = ["--runtime.callbacks.store", "null"]
                if stores:
                    block = {"url": f"s3://bucket/pair{pair}", "resumable": options.resumable, "flush_seconds": 60}
                    words[-1] = json.dumps(block | ({"flush_seconds": 0} if options.down else {}))
                used = "http://127.0.0.1:1" if options.down else endpoint
                measured[stores] = _train(folder / f"run{pair}{stores}", options, words, used)
            (with_uploads, load), (without, plain_load) = measured[True], measured[False]
            ratios.append(with_uploads / without)
            loads.append(load / plain_load)
            print(
                f"pair {pair}: {with_uploads:.2f} s with uploads, {without:.2f} s without: {ratios[-1]:.3f}; "
                f"{load:.2f} s of processor, {plain_load:.2f} s without: {loads[-1]:.3f}",
                flush=True,
            )
    for kind, values in (("seconds", ratios), ("processor", loads)):
        print(f"{kind}: median {statistics.median(values):.3f}, from {min(values):.3f} to {max(values):.3f}")


def _train(run: Path, options: argparse.Namespace, words: list[str], endpoint: str) -> tuple[float, float]:
    """Train, and return the seconds that the steps took, and the processor time of the process."""
    access, _, secret = KEY.partition(",")
    environment = {
        "OMP_NUM_THREADS": "1",
        **os.environ,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": access,
        "AWS_SECRET_ACCESS_KEY": secret,
    }
    architecture = {
        "model_type": "bert", "hidden_size": options.width, "num_hidden_layers": options.layers,
        "num_attention_heads": options.width // 64, "intermediate_size": 4 * options.width,
        "max_position_embeddings": 128,
    }  # fmt: skip
    phases = [{"until": options.steps, "batch_size": 16, "max_seq_length": 64}]
    command = [
        sys.executable, "-m", "claf2", "train", "--base_config", "scratch/pretrain", "--sample", "--device", "cpu",
        "--architecture", json.dumps(architecture), "--trainer.pretrain.phases", json.dumps(phases),
        "--keep_step_count", str(options.keep), "--eval_and_save_step_count", str(options.keep),
        "--log_dir", str(run), *words,
    ]  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    load = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return float(json.loads((run / "run.json").read_text())["train_seconds"]), load


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """Run `rclone serve s3` with a bucket on the disk."""
    (folder / "store/bucket").mkdir(parents=True)
    rclone = Path(sys.executable).with_name("rclone")
    command = [str(rclone), "serve", "s3", str(folder / "store"), "--addr", "127.0.0.1:0", "--auth-key", KEY]
    with subprocess.Popen([*command, "--config", ""], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = next(filter(None, (re.search(r"\[(http://[\d.:]+)/\]", line) for line in process.stderr)), None)
        if found is None:
            raise SystemExit("rclone does not start: pip install -e '.[test-servers]'")
        try:
            yield found.group(1)
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
