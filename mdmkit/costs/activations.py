"""What a micro-batch keeps in memory between forward and backward: measured, without a GPU.

The recipe's own objective runs forward and backward on the meta device, where every operation of
torch makes tensors with a size and without content. Each storage is counted from the moment at
which it is made until nobody holds it any more, as an allocator does. So whatever a denoiser keeps
is counted, whoever wrote it, and the largest amount at any moment is known.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mdmkit.costs.dry import Dry
from mdmkit.costs.meta import META, LikeCuda, in_words, on_meta
from mdmkit.training.activation import checkpoint_block
from mdmkit.training.parallel import blocks_of
from mdmkit.values.mapped import mapped

if TYPE_CHECKING:
    from mdmkit.protocols import Denoiser

Kind = Literal["activations", "casts", "gradients"]
Checkpointing = Literal["none", "selective", "full"]

_ALLOCATED = 512
"""Torch's CUDA allocator rounds up to a multiple of these bytes."""


@frozen(kw_only=True)
class StepMemory:
    """Bytes of a micro-batch, beside weights and inputs.

    Attributes:
        activations: kept by the forward for the backward.
        casts: copies of weights in bfloat16, kept with them.
        peak: the most there is at any moment, with what is at work and the gradients that are
            already there.
        gradients: those of them that are there at that moment.
    """

    activations: int
    casts: int
    peak: int
    gradients: int


def step_memory(
    network: nn.Module,
    dry: Dry,
    *,
    rows: int,
    autocast: bool,
    checkpointing: Checkpointing = "none",
    gradients: bool = True,
    accumulated: bool = False,
) -> StepMemory:
    """Run a micro-batch forward and backward without numbers, and count.

    Args:
        network: a denoiser with its weights in the dtype that they have; it stays as it is.
        dry: the objective.
        rows: of the micro-batch.
        autocast: whether the forward runs under the autocast to bfloat16.
        checkpointing: of the blocks' activations.
        gradients: whether the parameters' gradients count in the peak; they do not where they go
            elsewhere as soon as they are made.
        accumulated: whether there are gradients from an earlier micro-batch.

    Raises:
        RecipeError: where network or objective do not run on the meta device.
    """
    noised = mapped(dry.corrupted(rows), lambda tensor: tensor.to(META))
    numerics = LikeCuda(autocast=autocast)
    network = cast("nn.Module", on_meta(network))
    for block in blocks_of(network):
        numerics.cover(block)
        checkpoint_block(block, checkpointing)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in parameters:
        if accumulated:
            parameter.grad = torch.empty_like(parameter)
    memory = LiveMemory(network, gradients=gradients)
    with in_words("trained"), torch.enable_grad(), numerics, memory:
        loss = dry.objective.loss(cast("Denoiser", network), noised)
        numerics.forward_is_done()
        held = dict(memory.live)
        torch.autograd.backward([loss.total])
    return StepMemory(
        activations=held["activations"],
        casts=held["casts"],
        peak=memory.peak,
        gradients=memory.at_peak,
    )


class LiveMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that come to be inside, by kind, until they go.

    Attributes:
        live: bytes that are there now.
        peak: the most there were at once.
        at_peak: how much of that were gradients.
    """

    def __init__(self, network: nn.Module, *, gradients: bool = True) -> None:
        """Count what is not of `network`, nor there before; its gradients only where asked for."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.live: dict[Kind, int] = {"activations": 0, "casts": 0, "gradients": 0}
        self.peak = self.at_peak = 0
        self._gradients = gradients
        self._weights = {_key(parameter) for parameter in network.parameters()}
        self._known: dict[int, tuple[Kind, int]] = {}
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(self._accumulated)  # type: ignore[no-untyped-call]
            for parameter in network.parameters()
            if parameter.requires_grad
        ]
        for parameter in network.parameters():
            if parameter.grad is not None:
                self._add(parameter.grad, "gradients")

    def __exit__(self, *error: Any) -> None:
        """Stop counting."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do the operation and count what it made."""
        made = func(*args, **(kwargs or {}))
        casts = func is torch.ops.aten._to_copy.default and _key(args[0]) in self._weights
        for value in tree_leaves(made):
            if isinstance(value, Tensor):
                self._add(value, "casts" if casts else "activations")
        return made

    def _add(self, tensor: Tensor, kind: Kind) -> None:
        storage, key = tensor.untyped_storage(), _key(tensor)
        if key in self._known or key in self._weights:
            return
        size = -(-storage.nbytes() // _ALLOCATED) * _ALLOCATED
        self._known[key] = (kind, size)
        weakref.finalize(storage, self._drop, key)
        self._change(kind, size)

    def _drop(self, key: int) -> None:
        kind, size = self._known.pop(key)
        self.live[kind] -= size

    def _accumulated(self, parameter: Tensor) -> None:
        """The gradient of a parameter is no longer on its way, but there."""
        assert parameter.grad is not None
        key = _key(parameter.grad)
        if key in self._known:
            kind, size = self._known[key]
            self.live[kind] -= size
            self._known[key] = ("gradients", size)
            self._change("gradients", size)

    def _change(self, kind: Kind, size: int) -> None:
        self.live[kind] += size
        gradients = self.live["gradients"] if self._gradients else 0
        now = self.live["activations"] + self.live["casts"] + gradients
        if now > self.peak:
            self.peak, self.at_peak = now, gradients


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
