"""The network of a run as a model of transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import torch
from attrs import frozen
from torch import nn

from mdmkit import DataError, TrainedRun

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@frozen(kw_only=True, eq=False)
class Exported:
    """A model of transformers that has the weights of a run.

    Attributes:
        model: of transformers.
        prefix: before the names of its weights, for those of the run's denoiser; where the model
            has the denoiser in it, what is to be taken away.
        own: whether it is a class of ours, not of transformers.
    """

    model: PreTrainedModel
    prefix: str
    own: bool


def exported_model(trained: TrainedRun, denoiser_table: dict[str, Any], dtype: str) -> Exported:
    """The run's network with its weights in `dtype`.

    Args:
        trained: the run, on the CPU in float32; its network is used up.
        denoiser_table: ``[denoiser]`` of its recipe.
        dtype: ``fp32`` or ``bf16``.

    Raises:
        DataError: for another dtype, or a network that is asked in an order.
    """
    prediction = trained.recipe.objective.prediction
    if prediction not in ("masked", "next_token"):
        raise DataError(
            f'the run\'s network predicts "{prediction}", which no model of transformers can be '
            'asked for; expected a run that predicts "masked" or "next_token"'
        )
    if dtype not in DTYPES:
        raise DataError(f"--dtype: expected {' or '.join(DTYPES)}, got {dtype!r}")
    network: Any = trained.call(lambda denoiser: denoiser)
    found = _inner(network)
    exported = found or _wrapped(trained, network, denoiser_table)
    for parameter in exported.model.parameters():
        parameter.data = parameter.data.to(DTYPES[dtype])
    exported.model.eval()  # type: ignore[no-untyped-call]
    return exported


def _inner(network: nn.Module) -> Exported | None:
    """The model of transformers that a network is made of, if it is that and nothing more."""
    from transformers import PreTrainedModel

    children = dict(network.named_children())
    if len(children) != 1:
        return None
    ((prefix, model),) = children.items()
    if not isinstance(model, PreTrainedModel):
        return None
    beside = [name for name in network.state_dict() if not name.startswith(f"{prefix}.")]
    return None if beside else Exported(model=model, prefix=f"{prefix}.", own=False)


def _wrapped(trained: TrainedRun, network: nn.Module, table: dict[str, Any]) -> Exported:
    from mdmkit_hf.auto import MdmkitConfig, MdmkitForMaskedLM, tied_names

    vocabulary = trained.tokenizer.vocab
    config = MdmkitConfig(
        denoiser=table,
        length=trained.recipe.data.length,
        vocabulary=attrs.asdict(vocabulary, filter=lambda _, value: value is not None),
        causal=trained.recipe.objective.prediction == "next_token",
        tie_word_embeddings=bool(tied_names(network)),
        bos_token_id=vocabulary.bos_id,
        eos_token_id=vocabulary.eos_id,
        pad_token_id=vocabulary.pad_id,
    )
    with torch.device("meta"):
        model = MdmkitForMaskedLM(config)
    model.denoiser = network
    return Exported(model=model, prefix="denoiser.", own=True)
