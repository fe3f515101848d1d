"""How much faster a step of masked language modeling is when the decoder computes only the tokens with a target.

Both kinds of steps run on the same weights and rows, one after another in pairs, so that other work on the machine
slows both down. Printed are CPU seconds, and the ratio of each pair: its median, and the lowest and the highest.

    python benchmarks/target_tokens.py --layers 4 --width 256 --vocab 32000 --rows 16 --length 128 --pairs 8
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertForMaskedLM

from claf2.models.target_tokens import TargetTokens

RATE = 0.15
"""The share of the tokens that have a target."""


def main() -> None:
    """Measure, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("layers", 4), ("width", 256), ("vocab", 32000), ("rows", 16), ("length", 128), ("pairs", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=args.vocab,
        hidden_size=args.width,
        num_hidden_layers=args.layers,
        num_attention_heads=args.width // 64,
        intermediate_size=4 * args.width,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForMaskedLM(config).train()
    decoder = TargetTokens(model)
    ids = torch.randint(5, args.vocab, (args.rows, args.length))
    targets = torch.where(torch.rand(ids.shape) < RATE, ids, -100)

    def full() -> torch.Tensor:
        return cross_entropy(model(input_ids=ids).logits.flatten(0, 1), targets.flatten(), reduction="sum")

    def masked() -> torch.Tensor:
        outputs = decoder.forward(targets, input_ids=ids)
        return cross_entropy(outputs["logits"][0], outputs["target_ids"], reduction="sum")

    def seconds(loss: Callable[[], torch.Tensor]) -> tuple[float, float]:
        model.zero_grad(set_to_none=True)
        started = time.process_time()
        value = loss()
        value.backward()
        return time.process_time() - started, float(value.detach())

    for step in (full, masked):  # warms up
        seconds(step)
    pairs = []
    for number in range(args.pairs):
        order = (full, masked) if number % 2 == 0 else (masked, full)
        taken = {step.__name__: seconds(step) for step in order}
        pairs.append((taken["full"], taken["masked"]))
    ratios = [one[0] / other[0] for one, other in pairs]
    difference = max(abs(one[1] / other[1] - 1) for one, other in pairs)
    print(
        f"{args.layers}x{args.width}, vocabulary {args.vocab}, {args.rows}x{args.length}: "
        f"{statistics.median(one[0] for one, _ in pairs):.2f} s with all tokens, "
        f"{statistics.median(other[0] for _, other in pairs):.2f} s with those that have a target; "
        f"x{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}); losses differ by {difference:.0e}"
    )


if __name__ == "__main__":
    main()
