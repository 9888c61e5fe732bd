"""A denoiser on torch's meta device: shapes and dtypes of a GPU's computation, without numbers.

The meta device has no kernels, so it cannot tell how a GPU would go about it. Two things matter
for what a step costs and keeps, and `LikeCuda` puts them in: attention takes the fused kernels, so
that no ``[B, H, L, L]`` scores exist, and autocast computes in bfloat16 what it does on CUDA.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from mdmkit.errors import RecipeError
from mdmkit.values import Vocabulary

if TYPE_CHECKING:
    from mdmkit.protocols import Denoiser
    from mdmkit.recipe import Recipe

META = torch.device("meta")

# What autocast does on CUDA (torch's "Automatic Mixed Precision package", op reference), by the
# names under which Python calls it.
_NARROW = frozenset({
    "__matmul__", "__rmatmul__", "addbmm", "addmm", "addmv", "addr", "baddbmm", "bmm", "bilinear",
    "chain_matmul", "conv1d", "conv2d", "conv3d", "einsum", "linear", "matmul", "mm", "mv",
    "prelu", "scaled_dot_product_attention",
})  # fmt: skip
_WIDE = frozenset({
    "__pow__", "__rpow__", "cosine_similarity", "cross_entropy", "cumprod", "cumsum", "dist",
    "exp", "expm1", "group_norm", "kl_div", "layer_norm", "log", "log10", "log1p", "log2",
    "log_softmax", "logsumexp", "mse_loss", "nll_loss", "norm", "normalize", "pow", "prod",
    "reciprocal", "rsqrt", "softmax", "softmin", "softplus", "sum",
})  # fmt: skip


class LikeCuda(TorchFunctionMode):
    """Inside, torch's functions on meta tensors compute as on CUDA."""

    def __init__(self, *, autocast: bool) -> None:
        """Compute with the autocast to bfloat16, or without."""
        super().__init__()
        self._autocast = autocast
        self._keeping = True
        self._outer: list[Any] = []
        self._weights: dict[int, Tensor] = {}  # casts of parameters are kept, as autocast does

    def __enter__(self) -> LikeCuda:
        """Torch's own autocast, which does not know the meta device, obeys for it, too."""
        self._outer.append(torch.autocast)
        torch.autocast = self._switched  # type: ignore[assignment,misc]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        """Everything is as it was."""
        torch.autocast = self._outer.pop()  # type: ignore[misc]
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def cover(self, module: nn.Module) -> None:
        """Be there whenever `module` is called, in place.

        Torch puts a mode aside for the whole backward pass, where checkpointed modules are called
        once more.
        """
        forward = module.forward

        def covered(*args: Any, **kwargs: Any) -> Any:
            with self:
                return forward(*args, **kwargs)

        module.forward = covered

    def forward_is_done(self) -> None:
        """Let go of the casts of parameters; what is computed again makes its own."""
        self._weights.clear()
        self._keeping = False

    def _switched(
        self, device_type: str, dtype: Any = None, enabled: bool = True, **more: Any
    ) -> contextlib.AbstractContextManager[Any]:
        if device_type != META.type:
            outer: contextlib.AbstractContextManager[Any] = self._outer[0](
                device_type, dtype, enabled, **more
            )
            return outer
        return self._switch(enabled)

    @contextlib.contextmanager
    def _switch(self, enabled: bool) -> Iterator[None]:
        before, self._autocast = self._autocast, enabled
        try:
            yield
        finally:
            self._autocast = before

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call `func`, or what stands for it."""
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if self._autocast and name in _NARROW:
            args, kwargs = tree_map(self._narrow, (args, kwargs))
        elif self._autocast and name in _WIDE:
            args, kwargs = tree_map(_wide, (args, kwargs))
        if func is functional.scaled_dot_product_attention:
            return _fused_attention(*args, **kwargs)
        return func(*args, **kwargs)

    def _narrow(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dtype is not torch.float32:
            return value
        if not (self._keeping and value.is_leaf and value.requires_grad):
            return value.to(torch.bfloat16)
        return self._weights.setdefault(id(value), value.to(torch.bfloat16))


def _wide(value: Any) -> Any:
    narrow = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if narrow else value


def _fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,  # noqa: ARG001 - fewer heads of keys and values need no copies here
) -> Tensor:
    """``scaled_dot_product_attention`` by the kernel that CUDA takes: what it keeps is the same.

    Flash attention for half precision without a mask, else the memory-efficient kernel, whose
    mask is made into a bias in the dtype of the query.
    """
    if attn_mask is None and query.dtype in (torch.bfloat16, torch.float16):
        found = torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, dropout_p, is_causal, scale=scale
        )
        return cast("Tensor", found[0])
    bias = None
    if attn_mask is not None:
        bias = torch.empty(attn_mask.shape, dtype=query.dtype, device=query.device)
        bias = bias.expand(*query.shape[:-1], key.shape[-2])
    found = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, bias, True, dropout_p, is_causal, scale=scale
    )
    return cast("Tensor", found[0])


def build_on_meta(recipe: Recipe, vocab_size: int) -> Denoiser:
    """The denoiser of `recipe` without its numbers: nothing is allocated.

    Args:
        recipe: with the denoiser's options.
        vocab_size: V; the last id is the mask.

    Raises:
        RecipeError: where the denoiser cannot be built that way.
    """
    with in_words("built"), META:
        return cast(
            "Denoiser",
            recipe.denoiser.build(Vocabulary(size=vocab_size, mask_id=vocab_size - 1)),
        )


def on_meta(denoiser: nn.Module) -> Denoiser:
    """A copy of `denoiser` on the meta device, which takes no memory; not of a sharded one."""
    memo: dict[int, Any] = {}
    for parameter in denoiser.parameters():
        empty = torch.empty_like(parameter, device=META, requires_grad=False)
        memo[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
    for buffer in denoiser.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device=META)
    return cast("Denoiser", copy.deepcopy(denoiser, memo))


@contextlib.contextmanager
def in_words(what: str) -> Iterator[None]:
    """An error of the meta device becomes one of the recipe's.

    Raises:
        RecipeError: instead of the RuntimeError or NotImplementedError of the body.
    """
    try:
        yield
    except RuntimeError as error:  # NotImplementedError is one
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RecipeError(
            f"[denoiser]: cannot be {what} on torch's meta device, where tensors have shapes but "
            f"no numbers, so nothing can be counted: {reason}; expected a network whose forward "
            "looks at no values"
        ) from error
