"""The output layer and its cross-entropies, at the positions that count and nowhere else.

A position whose token is not masked has nothing to predict, so its logits are never made; and the
logits of the others exist for one chunk of positions at a time. A chunk's gradient is worked out
right after its logits, while they are at hand: three matrix products a position, as for logits that
are kept, where a recomputation in the backward pass would need four.

Shapes: B rows, L positions, D width, V vocabulary, C positions that count, in row-major order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mdmkit.diffusion import masked_logits, masked_nll
from mdmkit.values import Loss, Noised

if TYPE_CHECKING:
    from mdmkit.protocols import Denoiser

LOGITS_AT_ONCE = {"cpu": 2**24, "cuda": 2**28}
"""Logits of a chunk by device: 64 MiB and 1 GiB in float32."""

_MULTIPLE = 128


def chunk_rows(vocab_size: int, device: torch.device, most: int | None = None) -> int:
    """How many positions have their logits made at once: a multiple of 128.

    Args:
        vocab_size: V.
        device: where.
        most: positions of a micro-batch. A chunk is then at most about a quarter of them, so that
            a last chunk that is filled up wastes little.
    """
    rows = LOGITS_AT_ONCE.get(device.type, LOGITS_AT_ONCE["cuda"]) // vocab_size
    rows = max(rows // _MULTIPLE, 1) * _MULTIPLE
    return rows if most is None else min(rows, -(-most // (4 * _MULTIPLE)) * _MULTIPLE)


def weighted_loss(denoiser: Denoiser, noised: Noised, mask_id: int) -> Loss:
    """The weighted sum of the cross-entropies at ``noised.in_loss``, from one call of `denoiser`.

    Σ w_i·nll_i with the mask's logit at −∞ (SUBS, arXiv 2406.07524): that of all logits at once,
    but for rounding. Where ``noised.places`` are padded, every chunk has the same shape, and the
    cross-entropy is compiled.

    Args:
        denoiser: is called with the noised inputs; its ``unembed`` makes the logits.
        noised: a micro-batch, on the device of the denoiser.
        mask_id: is never a target and never predicted.
    """
    h = denoiser(noised.inputs, t=noised.t, attention=noised.attention)
    noised = noised.placed()
    places, valid = noised.places, noised.valid
    assert places is not None  # `placed` makes them
    rows = h.flatten(0, 1).index_select(0, places)  # [C, D]
    weights = noised.weights.flatten()[places]
    targets = noised.targets.flatten()[places]
    if valid is not None:
        weights = weights.where(valid, 0.0)
        targets = targets.where(valid, 1 if mask_id == 0 else 0)  # anything but the mask
    chunk = None if valid is None else noised.chunk
    total, nll = _weighted_sum(denoiser, rows, targets, weights, mask_id, chunk)
    nll = nll if valid is None else nll.where(valid, 0.0)
    by_place = nll.new_zeros(noised.in_loss.numel()).index_add_(0, places, nll)
    return Loss(
        total=total,
        nll=by_place.view(noised.in_loss.shape).sum(-1),
        tokens=noised.in_loss.sum(-1),
    )


def cross_entropies(denoiser: Denoiser, h: Tensor, targets: Tensor, mask_id: int) -> Tensor:
    """The cross-entropy of each position, a chunk of logits at a time: for measuring.

    Args:
        denoiser: whose ``unembed`` makes the logits.
        h: ``[C, D]`` features.
        targets: ``[C]`` true tokens.
        mask_id: is never a target and never predicted.

    Returns:
        ``[C]`` float32 nats; they have a gradient where `h` has, but then all logits are kept.
    """
    vocab_size = denoiser.unembed(h[:0]).shape[-1]
    parts = [
        masked_nll(denoiser.unembed(rows), true, mask_id)
        for rows, true in _chunks(chunk_rows(vocab_size, h.device), h, targets)
    ]
    return torch.cat(parts) if parts else h.new_zeros(0, dtype=torch.float32)


def cross_entropy_and_gradient(
    logits: Tensor, targets: Tensor, weights: Tensor, mask_id: int
) -> tuple[Tensor, Tensor]:
    """Cross-entropies, and the gradient of their weighted sum by the logits.

    With p = softmax of the logits without the mask's, nll_i = −log p_i(target_i), and the gradient
    of Σ w_i·nll_i is w_i·(p_i − e_target), 0 at the mask.

    Args:
        logits: ``[C, V]``.
        targets: ``[C]`` int64.
        weights: ``[C]`` float32.
        mask_id: the id whose probability is zero.

    Returns:
        ``[C]`` float32 and ``[C, V]`` in the dtype of the logits.
    """
    wide = masked_logits(logits, mask_id)  # a copy
    log_sum = wide.logsumexp(-1, keepdim=True)
    nll = (log_sum - wide.gather(1, targets[:, None]))[:, 0]
    gradient = wide.sub_(log_sum).exp_()
    gradient.scatter_add_(1, targets[:, None], -torch.ones_like(log_sum))
    return nll, gradient.mul_(weights[:, None]).to(logits.dtype)


@cache
def _compiled() -> Callable[..., tuple[Tensor, Tensor]]:
    return torch.compile(cross_entropy_and_gradient, dynamic=False)


def _weighted_sum(
    denoiser: Denoiser,
    rows: Tensor,
    targets: Tensor,
    weights: Tensor,
    mask_id: int,
    chunk: int | None,
) -> tuple[Tensor, Tensor]:
    """Σ w·nll with its gradient, and the nll ``[C]`` without.

    Where C was filled up to whole chunks, `chunk` is their size.
    """
    if not torch.is_grad_enabled():
        nll = cross_entropies(denoiser, rows, targets, mask_id)
        return (nll * weights).sum(), nll
    probe = denoiser.unembed(rows[:0].detach())  # no position: V, and the parameters it reads
    kernel = cross_entropy_and_gradient if chunk is None else _compiled()
    chunk = chunk or chunk_rows(probe.shape[-1], rows.device)
    found: tuple[Tensor, Tensor] = _WeightedSum.apply(  # type: ignore[no-untyped-call]
        denoiser.unembed, kernel, chunk, mask_id, rows, targets, weights, *_leaves(probe)
    )
    return found


class _WeightedSum(torch.autograd.Function):
    """Σ w·nll by chunks; the gradient by features and parameters is made on the way."""

    @staticmethod
    def forward(
        ctx: Any,
        unembed: Callable[[Tensor], Tensor],
        kernel: Callable[..., tuple[Tensor, Tensor]],
        chunk: int,
        mask_id: int,
        rows: Tensor,
        targets: Tensor,
        weights: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        nlls: list[Tensor] = []
        by_rows = torch.empty_like(rows)
        by_parameters = [torch.zeros_like(p, dtype=torch.float32) for p in parameters]
        for part, true, weight, by_part in _chunks(chunk, rows, targets, weights, by_rows):
            with torch.enable_grad():
                x = part.detach().requires_grad_()
                logits = unembed(x)
            nll, by_logits = kernel(logits.detach(), true, weight, mask_id)
            nlls.append(nll)
            with torch.autocast(rows.device.type, enabled=False):  # as in any backward pass
                found = torch.autograd.grad(logits, (x, *parameters), by_logits)
            by_part.copy_(found[0])
            for total, one in zip(by_parameters, found[1:], strict=True):
                total += one
        nll = torch.cat(nlls) if nlls else rows.new_zeros(0, dtype=torch.float32)
        ctx.save_for_backward(by_rows, *by_parameters)
        ctx.dtypes = [p.dtype for p in parameters]
        ctx.mark_non_differentiable(nll)
        return (nll * weights).sum(), nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        by_rows, *by_parameters = ctx.saved_tensors
        # In place: the gradient of a vocabulary's weights is large, and it is needed only once.
        scaled = [
            total.mul_(outer).to(dtype)
            for total, dtype in zip(by_parameters, ctx.dtypes, strict=True)
        ]
        return (
            None,
            None,
            None,
            None,
            (by_rows.float() * outer).to(by_rows.dtype),
            None,
            None,
            *scaled,
        )


def _leaves(output: Tensor) -> list[Tensor]:
    """The parameters that `output` was computed from, each once."""
    left, seen = [output.grad_fn], set()
    found: list[Tensor] = []
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        left += [before for before, _ in node.next_functions]
    return found


def _chunks(size: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """`tensors` in pieces of at most `size` rows, together."""
    for first in range(0, len(tensors[0]), size):
        yield tuple(tensor[first : first + size] for tensor in tensors)
