"""The update of StableAdamW, which `torch.optim` does not have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

__all__ = ["ClippedAdamW"]


class ClippedAdamW(torch.optim.Optimizer):
    """AdamW with update clipping (Wortsman et al., 2023, https://arxiv.org/abs/2304.13013, algorithm 2).

    For each parameter, the learning rate is divided by the root mean square of its gradient over its second moment,
    where that exceeds 1. The second moment then lags behind the gradients, and a full step would be too long.

    Args:
        params: parameters, or groups of them.
        lr: the learning rate.
        betas: the decay rates of the two moments; both are corrected for their bias.
        eps: added to the root of the second moment, and the least root that a gradient is divided by.
        weight_decay: decoupled, and multiplied by the clipped learning rate.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        steps, (beta1, beta2), eps = float(state["step"]), group["betas"], group["eps"]
        # With these rates the moments need no correction of their bias (Shazeer and Stern, 2018, section 7.1).
        beta1 = beta1 * (1 - beta1 ** (steps - 1)) / (1 - beta1**steps)
        beta2 = beta2 * (1 - beta2 ** (steps - 1)) / (1 - beta2**steps)
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        # On the device: reading the root would make the host wait.
        rms = (gradient.square() / square.clamp(min=eps**2)).mean().sqrt().clamp(min=1.0)
        rate = group["lr"] / rms
        parameter.mul_(1 - rate * group["weight_decay"]).sub_(rate * mean / (square.sqrt() + eps))
