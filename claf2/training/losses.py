"""The loss of a step, micro-batch by micro-batch.

Most losses are sums over rows, so those of micro-batches add up. A contrastive loss compares each row with all others
of the whole batch. Its gradients still add up (GradCache; Gao et al., 2021, https://arxiv.org/abs/2101.06983): the
outputs of all rows are computed without a graph, the loss and its gradient for the outputs follow from them, and a
second pass over each micro-batch takes the gradient on to the weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from claf2.data.batch import Batch
from claf2.heads import Head
from claf2.models.encoder import EncoderWithHeads
from claf2.runtime import distributed
from claf2.runtime.seed import get_rng_state, set_rng_state
from claf2.training.objectives import ForwardPass, Objective

__all__ = ["LossModule", "LossPart", "divide_loss"]


@dataclass(frozen=True)
class LossPart:
    """The part of a micro-batch in the loss of a whole batch."""

    value: torch.Tensor
    """The loss, divided among the micro-batches by their rows, a scalar."""
    gradient: torch.Tensor
    """The gradient of the loss for the outputs of the micro-batch, (B, …)."""
    rng_state: dict[str, torch.Tensor]
    """The generators before the first pass: the second one drops the same."""

    def repeat_draws(self) -> None:
        """Put the generators back to where they were before the first pass."""
        set_rng_state(self.rng_state)

    def loss(self, outputs: Any) -> torch.Tensor:
        """Return the part of the loss, a scalar with the right gradient for the outputs of the second pass."""
        linear = (_tensor_of(outputs) * self.gradient).sum()
        return linear - linear.detach() + self.value


class LossModule(nn.Module):
    """The loss of a micro-batch, objectives included, as one module: DDP must see every parameter that a pass uses.

    Args:
        model: the model.
        heads: the head of each task.
        objectives: what changes inputs or loss, applied in this order.
        companions: what the objectives use besides the model, by their names.
    """

    def __init__(
        self,
        model: EncoderWithHeads,
        heads: Mapping[str, Head[Any, Any]],
        objectives: Sequence[Objective],
        companions: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.model, self.heads, self.objectives = model, heads, objectives
        self.companions = companions  # a mapping of its own kind, so that DDP and FSDP see no teacher

    def forward(
        self,
        task: str,
        tensors: Mapping[str, torch.Tensor],
        shares: torch.Tensor,
        share: torch.Tensor,
        part: LossPart | None = None,
    ) -> torch.Tensor:
        """Return the loss, a scalar.

        Args:
            task: whose rows they are.
            tensors: the micro-batch, as the objectives have changed it.
            shares: the factors of the terms of the head's loss, a scalar or (T,).
            share: the factor of a loss summed over rows, a scalar.
            part: what the loss of a whole batch amounts to for this micro-batch; ``None``: the losses of rows add up.
        """
        head, outputs = self.heads[task], self.model(task, tensors)
        loss: torch.Tensor = (head.loss(outputs, tensors) * shares).sum() if part is None else part.loss(outputs)
        for objective in self.objectives:
            forward_pass = ForwardPass(self.model, task, head, tensors, outputs, share, shares, self.companions)
            loss = objective.loss(loss, forward_pass)
        return loss

    def change_inputs(self, task: str, batch: Batch) -> Batch:
        """Return what the objectives make of a micro-batch. They are asked before its targets are counted and its first
        pass, so that denominators, and every pass, are those of the changed one."""
        changing = [objective for objective in self.objectives if objective.changes_inputs]
        if not changing:
            return batch
        tensors: Mapping[str, torch.Tensor] = batch.tensors(self.model.device)
        for objective in changing:
            tensors = objective.change_inputs(self.model, task, tensors)
        # Counts are made on the host, and lengths follow from the mask.
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items() if name != "lengths"}
        return Batch(arrays, batch.has_loss)


def divide_loss(
    head: Head[Any, Any],
    compute: Callable[[Mapping[str, torch.Tensor]], Any],
    batches: Sequence[Batch],
    shares: torch.Tensor,
    counts: Sequence[int],
    device: torch.device,
) -> list[LossPart]:
    """Compute the loss of a batch that is divided among micro-batches and processes, and return the part of each
    micro-batch of this process. Every process computes the whole loss, so only outputs are exchanged.

    Args:
        head: whose loss it is.
        compute: the tensors of a micro-batch → the model's outputs.
        batches: the micro-batches of this process.
        shares: the factors of the terms of the loss, a scalar or (T,).
        counts: how many rows each process has.
        device: where the model computes.
    """
    states, rows_of, targets = [], [], []
    with torch.no_grad():
        for batch in batches:
            states.append(get_rng_state())
            tensors = batch.tensors(device)
            computed = compute(tensors)
            rows = len(batch) * batch.has_loss
            rows_of.append(_tensor_of(computed)[:rows])
            targets.append({name: tensors[name][:rows] for name in head.targets})
        everything = distributed.all_gather_rows(torch.cat(rows_of), counts)
        joined = {
            name: distributed.all_gather_rows(torch.cat([part[name] for part in targets]), counts)
            for name in head.targets
        }
    everything.requires_grad_()
    with torch.enable_grad():
        loss = (head.loss(_with_tensor(computed, everything), joined) * shares).sum()
    (gradient,) = torch.autograd.grad(loss, everything)
    begin = sum(counts[: distributed.rank()])
    own = gradient[begin : begin + counts[distributed.rank()]]
    parts = zip(batches, states, torch.split(own, [len(part) for part in rows_of]), strict=True)
    return [
        LossPart(
            value=loss.detach() * (len(part) / len(everything)),
            # A row that only joins the passes of other processes has no part in the loss.
            gradient=part if batch.has_loss else part.new_zeros(len(batch), *part.shape[1:]),
            rng_state=state,
        )
        for batch, state, part in parts
    ]


def _tensor_of(outputs: Any) -> torch.Tensor:
    """Return the only tensor of a module's outputs, (B, …)."""
    (tensor,) = vars(outputs).values()
    assert isinstance(tensor, torch.Tensor)
    return tensor


def _with_tensor(outputs: Any, tensor: torch.Tensor) -> Any:
    """Return outputs with another tensor."""
    return dataclasses.replace(outputs, **dict.fromkeys(vars(outputs), tensor))
