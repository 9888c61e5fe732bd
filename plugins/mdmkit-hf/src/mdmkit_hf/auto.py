"""Exported networks of mdmkit for transformers' Auto classes; importing this registers them.

    import mdmkit_hf.auto
    from transformers import AutoModelForMaskedLM

    model = AutoModelForMaskedLM.from_pretrained("exported")

The network is the very one of the run, made by the denoiser that ``config.json`` names, which must
be installed: nothing in the folder is code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput

from mdmkit.protocols import Denoiser
from mdmkit.values import Attention, Vocabulary
from mdmkit_hf.importing.recipes import recipe_of

_NARROW = (torch.bfloat16, torch.float16)


class MdmkitConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """What a network of mdmkit is made of.

    Attributes:
        denoiser: the table ``[denoiser]`` of its recipe, with every default filled in.
        length: L, on which it was trained.
        vocabulary: the fields of `mdmkit.values.Vocabulary`.
        causal: whether it predicts the next token, and sees nothing beyond.
    """

    model_type = "mdmkit"

    def __init__(
        self,
        denoiser: Mapping[str, Any] | None = None,
        length: int = 2,
        vocabulary: Mapping[str, Any] | None = None,
        causal: bool = False,
        **more: Any,
    ) -> None:
        self.denoiser = dict(denoiser or {"use": "dit"})
        self.length = length
        self.vocabulary = dict(vocabulary or {"size": 2, "mask_id": 1})
        self.causal = causal
        more.setdefault("tie_word_embeddings", False)
        super().__init__(**more)
        self.vocab_size = self.vocabulary["size"]
        self.mask_token_id = self.vocabulary["mask_id"]


class MdmkitForMaskedLM(PreTrainedModel):  # type: ignore[no-untyped-call]
    """A denoiser of mdmkit as a model of transformers."""

    config_class = MdmkitConfig
    base_model_prefix = ""

    def __init__(self, config: MdmkitConfig) -> None:
        super().__init__(config)
        with torch.device("cpu"):  # what the recipe works out is no part of the network
            tables = {"denoiser": config.denoiser, "data": {"length": config.length}}
            options = recipe_of(tables, where="config.json").denoiser
        self.denoiser = options.build(Vocabulary(**config.vocabulary))
        self._tied_weights_keys = tied_names(self)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        t: Tensor | None = None,
        labels: Tensor | None = None,
        **_: Any,
    ) -> MaskedLMOutput:
        """Logits of every position, ``[B, L, V]``.

        Where a token is masked they say what it is; the mask's own logit means nothing, so leave
        it out before a softmax. A causal network says at each position what comes next.

        Args:
            input_ids: ``[B, L]``, masked tokens as ``config.mask_token_id``.
            attention_mask: ``[B, L]``, 0 for padding.
            t: ``[B]``, the time, for networks that are told.
            labels: ``[B, L]``, true tokens, −100 where none counts; gives ``loss``, their mean
                cross-entropy in nats.
        """
        padding = None if attention_mask is None else attention_mask.bool()
        attention = Attention(causal=self.config.causal, padding=padding)
        denoiser = cast("Denoiser", self.denoiser)
        narrow = self.dtype in _NARROW
        with torch.autocast(
            input_ids.device.type, self.dtype if narrow else torch.bfloat16, enabled=narrow
        ):
            logits = denoiser.unembed(denoiser(input_ids, t=t, attention=attention))
        loss = None
        if labels is not None:
            loss = functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten())
        return MaskedLMOutput(loss=loss, logits=logits)

    def _init_weights(self, module: nn.Module) -> None:
        """Weights and buffers of a layer that no file has, as mdmkit's own layers make them."""
        reset = getattr(module, "reset_parameters", None)
        for name in module._non_persistent_buffers_set:
            buffer = module._buffers[name]
            if buffer is None:
                continue
            if reset is None:
                raise ValueError(f"{type(module).__name__} has no reset_parameters for {name}")
            if buffer.is_floating_point():  # positions and the like, whatever the weights are in
                module._buffers[name] = torch.empty_like(buffer, dtype=torch.float32)
        if reset is not None:
            reset()


def tied_names(module: nn.Module) -> dict[str, str]:
    """The further names of parameters that have several: each with the first of them."""
    first: dict[nn.Parameter, str] = {}
    return {
        name: known
        for name, parameter in module.named_parameters(remove_duplicate=False)
        if (known := first.setdefault(parameter, name)) != name
    }


AutoConfig.register(MdmkitConfig.model_type, MdmkitConfig, exist_ok=True)
AutoModelForMaskedLM.register(MdmkitConfig, MdmkitForMaskedLM, exist_ok=True)
