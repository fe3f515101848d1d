"""What a training step costs with each adapter, next to a step that trains all weights: time, memory, and what is
stored. Steps are taken in turns, so that whatever else the machine does slows all of them.

    python benchmarks/adapters.py --layers 12 --width 768 --methods lora,ia3,prefix

Memory is that of a process of its own with the steps of one method, minus that of a process that only imports claf2;
on a GPU, what PyTorch has allocated at most.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from claf2.adapters import adapters
from claf2.adapters.layers.adapt import adapt
from claf2.heads import heads
from claf2.models import SCRATCH, ModelSpec
from claf2.models.encoder import TaskHead, build_model
from claf2.training.optim import build_optimizer, optimizers

FULL = "full"


def make_step(arguments: argparse.Namespace, method: str) -> tuple[Callable[[], None], int]:
    """Return a function that makes one training step, and the number of trained parameters."""
    width = arguments.width
    architecture = {
        "model_type": "bert", "hidden_size": width, "num_hidden_layers": arguments.layers,
        "num_attention_heads": max(1, width // 64), "intermediate_size": 4 * width,
    }  # fmt: skip
    spec, head = (
        ModelSpec(pretrained_model_name=SCRATCH, architecture=architecture, dropout=None),
        heads.get("classify")(),
    )
    model = build_model(spec, SCRATCH, {"t": TaskHead(head, ["0", "1"])}, vocab_size=30_522, pad_id=0, seed=1)
    if method != FULL:
        adapt(model, adapters.get(method)(), spec, SCRATCH, added_tokens=0, seed=1)
    model.pack()
    device = torch.device(arguments.device)
    model.place(device)
    model.train()
    optimizer = build_optimizer(optimizers.get("adamw")(weight_decay=0.01), model, 1e-5)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1_000, 30_000, (arguments.batch_size, arguments.length), generator=generator)
    lengths = torch.full((arguments.batch_size,), arguments.length)
    batch = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0, "labels": lengths % 2}
    batch = {name: tensor.to(device) for name, tensor in batch.items()} | {"lengths": lengths}

    def step() -> None:
        loss: Any = head.loss(model("t", batch), batch).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step, sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def peak_mib(arguments: argparse.Namespace, method: str) -> float:
    """Return the peak memory of a process that makes two steps; with the method ``none``, of one that makes none."""
    words = [f"--{name}={getattr(arguments, name)}" for name in ("layers", "width", "batch_size", "length", "device")]
    done = subprocess.run(
        [sys.executable, __file__, *words, f"--child={method}"], capture_output=True, text=True, check=True
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


def run_child(arguments: argparse.Namespace) -> None:
    """Make two steps, and print the peak memory in MiB."""
    if arguments.child != "none":
        step, _ = make_step(arguments, arguments.child)
        step()
        step()
    if arguments.device.startswith("cuda"):
        print(json.dumps(torch.cuda.max_memory_allocated() / 2**20))
    else:
        print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--methods", default="lora,ia3,bitfit,bottleneck,prefix,prompt,head_only")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_child(arguments)
        return
    methods = arguments.methods.split(",")
    own = peak_mib(arguments, "none")
    memory = {method: peak_mib(arguments, method) - own for method in (FULL, *methods)}
    print(f"{arguments.layers} x {arguments.width}, {arguments.batch_size} rows of {arguments.length} tokens,", end=" ")
    print(f"{arguments.device}, {torch.get_num_threads()} threads; median of {arguments.rounds} steps in turns")
    print("| method | trained parameters | step, ms | of a full step | peak memory, MiB | of a full step |")
    print("| --- | --- | --- | --- | --- | --- |")
    full, whole = make_step(arguments, FULL)
    full()
    for method in methods:
        step, trained = make_step(arguments, method)
        step()
        pairs: list[tuple[float, float]] = []
        for _ in range(arguments.rounds):
            times = []
            for take in (full, step):
                began = time.perf_counter()
                take()
                times.append(time.perf_counter() - began)
            pairs.append((times[0], times[1]))
        ratio = statistics.median(other / one for one, other in pairs)
        seconds = statistics.median(other for _, other in pairs)
        print(
            f"| {method} | {trained:,} | {seconds * 1000:.0f} | {ratio:.2f} | {memory[method]:.0f} | "
            f"{memory[method] / memory[FULL]:.2f} |", flush=True,
        )  # fmt: skip
    print(f"| {FULL} | {whole:,} | {statistics.median(one for one, _ in pairs) * 1000:.0f} | 1.00 |", end=" ")
    print(f"{memory[FULL]:.0f} | 1.00 |")


if __name__ == "__main__":
    main()
