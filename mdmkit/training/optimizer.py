"""AdamW, clipping, and steps that change nothing unless they are finite."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from mdmkit.training.distributed import full, local

if TYPE_CHECKING:
    from mdmkit.recipe import Optimizer


def make_optimizer(parameters: Iterable[nn.Parameter], options: Optimizer) -> torch.optim.AdamW:
    """Fused AdamW (arXiv 1711.05101) with its state in place, so that a checkpoint can fill it.

    Weight decay applies to matrices only, not to biases and norms.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": options.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    narrow = any(parameter.dtype != torch.float32 for parameter in trained)
    optimizer = (WideAdamW if narrow else torch.optim.AdamW)(
        [group for group in groups if group["params"]],
        lr=0.0,
        betas=(options.beta1, options.beta2),
        eps=options.eps,
        fused=True,
    )
    for parameter in trained:
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter, dtype=torch.float32),
            "exp_avg_sq": torch.zeros_like(parameter, dtype=torch.float32),
        }
    return optimizer


class WideAdamW(torch.optim.AdamW):
    """AdamW on narrow weights, with its state and its arithmetic in float32.

    torch's own keeps its state in the dtype of the weights; in bfloat16 a mean of squares with
    β₂ = .999 would never fall, since a step changes it by less than it can show. Here a weight is
    widened, takes its step and is rounded again, one parameter after the other.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step on every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                wide = local(parameter).float()
                adamw(
                    [wide],
                    [local(parameter.grad).float()],
                    [local(state["exp_avg"])],
                    [local(state["exp_avg_sq"])],
                    [],
                    [state["step"]],
                    fused=True,
                    found_inf=getattr(self, "found_inf", None),
                    amsgrad=False,
                    beta1=group["betas"][0],
                    beta2=group["betas"][1],
                    lr=group["lr"],
                    weight_decay=group["weight_decay"],
                    eps=group["eps"],
                    maximize=False,
                )
                local(parameter).copy_(wide)


def clip_gradients(parameters: Iterable[nn.Parameter], clip_norm: float) -> Tensor:
    """Scale the gradients down to a global norm of at most `clip_norm` (0: leave them).

    Returns:
        The norm before clipping: a scalar on the parameters' device, the same on every rank.
    """
    trained = [parameter for parameter in parameters if parameter.grad is not None]
    # In float32: the sum of squares of a bfloat16 norm would have three digits.
    norm = torch.nn.utils.get_total_norm([p.grad.float() for p in trained if p.grad is not None])
    if clip_norm > 0:
        torch.nn.utils.clip_grads_with_norm_(trained, clip_norm, norm)
    return full(norm)


def step_where_finite(optimizer: torch.optim.AdamW, finite: Tensor, learning_rate: float) -> None:
    """Take a step if `finite` (a bool scalar on the device), else change nothing at all.

    The fused kernel skips by itself where ``found_inf`` is 1, as it does for gradient scalers, so
    the decision needs no word from the device to the host.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.grad_scale = None  # type: ignore[attr-defined]  # read by the fused kernel
    optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]  # as is this
    optimizer.step()
