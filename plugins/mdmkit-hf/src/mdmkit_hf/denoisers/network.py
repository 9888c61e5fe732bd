"""A language model of ``transformers`` as a denoiser.

The model itself is left as it is (`TransformersNetwork.inner`), so that its weights keep their
names and it can be saved for others. What is added: masks for any attention, the features apart
from the logits, and a vocabulary that may be smaller than the tables.

Shapes: B rows, L positions, D width, V vocabulary, N any number of positions.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from mdmkit import PluginError, RecipeError
from mdmkit.values import Attention, Vocabulary
from mdmkit.visibility import visible_groups
from mdmkit_hf.denoisers.configs import first_line, layer_kinds, make_config
from mdmkit_hf.denoisers.masks import FULL, SLIDING, layer_mask, read_one_before

if TYPE_CHECKING:
    from mdmkit_hf.denoisers.options import Transformers


class TransformersNetwork(nn.Module):
    """The network of `Transformers`: ``tokens [B, L] -> h [B, L, D]``, then ``unembed``.

    Attributes:
        inner: the model of ``transformers``, with its head.
        autoregressive: whether it was made to predict the next token.
        vocab_size, mask_id: of the run.
        shift: whether position i is read at position i − 1.
    """

    def __init__(self, options: Transformers, vocab: Vocabulary) -> None:
        """Make the model and draw its weights.

        The layers are made without memory first, so that their weights are drawn once, and in the
        same order when they are drawn later.

        Raises:
            RecipeError: where the options do not make one that can be a denoiser.
        """
        super().__init__()
        assert options.architecture is not None  # of resolved options
        self.vocab_size, self.mask_id, self.shift = vocab.size, vocab.mask_id, options.shift
        config = make_config(
            options.architecture,
            options.values,
            vocab_size=options.rows(vocab.size),
            bos_token_id=vocab.bos_id,
            eos_token_id=vocab.eos_id,
        )
        device = torch.get_default_device()
        with torch.device("meta"):
            self.inner, self.autoregressive = _model(config)
        try:
            self.first_position = _first_position(self.inner, options.config)
            self._head = (_head(self.inner),)  # in a tuple: its layers belong to `inner`
            self._try_out()
        except RecipeError:
            raise
        except Exception as error:  # of code that is not ours: whatever it raises, it does not fit
            raise RecipeError(
                f'[denoiser] architecture: a network of "{options.architecture}" with this config '
                f"cannot be a denoiser ({type(error).__name__}: {first_line(error)}); choose "
                "another architecture, or mend config"
            ) from error
        self.register_state_dict_post_hook(_without_twins)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_with_twins)  # type: ignore[no-untyped-call]
        if device.type != "meta":
            self.to_empty(device=device)
            self.init_weights()

    @torch.no_grad()
    def _try_out(self) -> None:
        """Go through the network once, while it has no memory."""
        tokens = torch.zeros(1, 2, dtype=torch.int64, device="meta")
        logits = self.unembed(self(tokens))
        if logits.shape != (1, 2, self.vocab_size):
            raise ValueError(f"logits of shape {list(logits.shape)}")

    @property
    def most_positions(self) -> int | None:
        """How many positions it has; None where the config does not say."""
        most = getattr(self.inner.config, "max_position_embeddings", None)
        return most - self.first_position if isinstance(most, int) else None

    @property
    def blocks(self) -> list[nn.Module]:
        """The repeated layers, in order; none where the model does not list as many as it has."""
        depth = self.inner.config.num_hidden_layers
        lists = (m for m in self.inner.base_model.modules() if isinstance(m, nn.ModuleList))
        return list(next((blocks for blocks in lists if len(blocks) == depth), ()))

    def init_weights(self) -> None:
        """Draw the weights again, as `Transformers.build` does: after ``to_empty``, say.

        Raises:
            PluginError: where the model leaves a weight or buffer without a value.
        """
        tensors = [*self.inner.named_parameters(), *self.inner.named_buffers()]
        with torch.no_grad():
            for _, tensor in tensors:
                if tensor.is_floating_point():
                    tensor.fill_(torch.nan)
        for module in self.inner.modules():  # whose weights count as drawn
            module.__dict__.pop("_is_hf_initialized", None)
        self.inner.init_weights()
        for name, tensor in tensors:
            if bool(tensor.isnan().any()):
                raise PluginError(
                    f"[denoiser]: {type(self.inner).__name__} of transformers leaves {name} "
                    "without a first value; choose another architecture"
                )

    def forward(
        self,
        tokens: Tensor,
        *,
        t: Tensor | None = None,  # noqa: ARG002 - every denoiser is called with it
        attention: Attention | None = None,
    ) -> Tensor:
        """Contextual features of every position, ``[B, L, D]``.

        Args:
            tokens: ``[B, L]`` int64.
            t: not looked at.
            attention: who sees whom; everybody sees everybody by default.

        Raises:
            ValueError: with a cache.
        """
        attention = attention or Attention()
        if attention.cache is not None:
            raise ValueError("this denoiser keeps no cache; leave Attention.cache out")
        length = tokens.shape[1]
        groups = visible_groups(attention, length)
        positions = attention.positions
        if positions is None:
            positions = torch.arange(length, device=tokens.device)[None]
        found = self.inner.base_model(
            input_ids=tokens,
            attention_mask=self._masks(groups, tokens, causal=attention.causal),
            position_ids=positions + self.first_position,
            is_causal=attention.causal,  # for the layers without a mask
        )
        h = found.last_hidden_state
        return read_one_before(h, groups) if self.shift else h

    def unembed(self, h: Tensor) -> Tensor:
        """Logits ``[..., V]`` of features ``[..., D]``."""
        logits = self._head[0](inputs_embeds=h.reshape(1, -1, h.shape[-1])).logits
        return cast("Tensor", logits[0, :, : self.vocab_size].view(*h.shape[:-1], self.vocab_size))

    def _masks(
        self, groups: Tensor | None, tokens: Tensor, *, causal: bool
    ) -> Tensor | Mapping[str, Tensor | None] | None:
        """The mask of all layers, or one for each kind where there are several."""
        config = self.inner.config
        windows = {FULL: None, SLIDING: getattr(config, "sliding_window", None)}
        masks = {
            kind: layer_mask(
                groups, tokens.shape[1], causal=causal, window=windows[kind], device=tokens.device
            )
            for kind in sorted(set(layer_kinds(config)))
        }
        return masks if len(masks) > 1 else next(iter(masks.values()))


class _Given(nn.Module):
    """In the place of a model without its head: gives back the features that it is given."""

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> Any:
        """Features ``[1, N, D]`` as a model's output."""
        from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=inputs_embeds)


def _model(config: Any) -> tuple[Any, bool]:
    """The model of a config, and whether it is an autoregressive one.

    A masked language model where there is one, else a causal one.

    Raises:
        RecipeError: where its attention takes no mask of ours.
    """
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    masked = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    auto = AutoModelForMaskedLM if masked else AutoModelForCausalLM
    try:
        model = auto.from_config(  # type: ignore[no-untyped-call]
            config, attn_implementation=_attention(), dtype=torch.float32, trust_remote_code=False
        )
    except Exception as error:  # of code that is not ours: whatever it raises, it cannot be made
        raise RecipeError(
            f'[denoiser] config: no network of "{config.model_type}" can be made of it '
            f"({type(error).__name__}: {first_line(error)})"
        ) from error
    if not (model._supports_sdpa and model._supports_attention_backend):
        raise RecipeError(
            f'[denoiser] architecture: "{config.model_type}" has attention of its own, which takes '
            "no mask from outside; expected one of transformers' common attention, such as bert, "
            "modernbert, gpt2, llama or qwen3"
        )
    return model, not masked


@cache
def _attention() -> str:
    """The name under which ``transformers`` finds `_attend`; it then makes no masks of its own.

    Its own would be looked up by values of the positions, which waits for the device, and take
    positions that begin anew for documents.
    """
    from transformers import AttentionInterface

    name = "mdmkit_sdpa"
    AttentionInterface.register(name, _attend)
    return name


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    is_causal: bool | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Attention by torch's SDPA, as ``transformers`` calls it, with masks from `layer_mask` alone.

    Raises:
        RecipeError: for a model that has more in its attention, or does not hand on what it is
            told: SDPA would compute something else.
    """
    from transformers import AttentionInterface

    unknown = [name for name in ("softcap", "s_aux") if more.get(name) is not None]
    if unknown or is_causal is None:
        reason = f"needs {unknown[0]}" if unknown else "does not say whether it is causal"
        raise RecipeError(
            f"[denoiser] architecture: {type(module).__name__} of transformers {reason}, which "
            "torch's attention cannot do; choose another architecture"
        )
    sdpa = AttentionInterface()["sdpa"]  # type: ignore[no-untyped-call]
    found: tuple[Tensor, None] = sdpa(
        module, query, key, value, attention_mask, is_causal=is_causal, **more
    )
    return found


def _first_position(inner: Any, values: Mapping[str, Any]) -> int:
    """The number of the first position: RoBERTa and its kin begin behind the padding token's."""
    own = any(hasattr(m, "create_position_ids_from_input_ids") for m in inner.base_model.modules())
    padding = values.get("pad_token_id", type(inner.config)().pad_token_id)
    return int(padding) + 1 if own else 0


def _head(inner: Any) -> Any:
    """The same model, layers shared, that takes features for what its body found.

    So the logits are made by its own code, whatever stands between body and logits.
    """
    head = copy.copy(inner)
    head.__dict__["_modules"] = {**inner._modules, inner.base_model_prefix: _Given()}
    return head


def _twins(network: TransformersNetwork) -> dict[str, str]:
    """Names of tied weights, each with the name that the weight has besides."""
    first: dict[int, str] = {}
    named = network.named_parameters(remove_duplicate=False)
    return {
        name: first[id(weight)]
        for name, weight in named
        if first.setdefault(id(weight), name) != name
    }


def _without_twins(module: Any, state: dict[str, Any], prefix: str, _: Any) -> None:
    """A tied weight is saved once."""
    for name in _twins(module):
        del state[f"{prefix}{name}"]


def _with_twins(module: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """And is loaded under all its names."""
    for name, other in _twins(module).items():
        if f"{prefix}{other}" in state:
            state.setdefault(f"{prefix}{name}", state[f"{prefix}{other}"])
