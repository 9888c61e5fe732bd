"""The options of a denoiser out of ``transformers``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from attrs import evolve, frozen

from mdmkit import RecipeError, option
from mdmkit.values import Vocabulary
from mdmkit_hf.denoisers import configs, pretrained

if TYPE_CHECKING:
    from torch import nn

    from mdmkit import Recipe
    from mdmkit_hf.denoisers.network import TransformersNetwork

MaskRow = Literal["auto", "mean", "keep"]

Scalar = bool | int | float | str
Flat = Scalar | Sequence[Scalar]
Table = Mapping[str, Flat]
Config = Mapping[str, Flat | Mapping[str, Flat | Table]]
"""What a config.json holds: tables in tables, no deeper."""

_NOTHING = (
    "architecture: expected a model_type of transformers, or pretrained (a folder, or a model on "
    "the hub)"
)


@frozen(kw_only=True)
class Transformers:
    """A network of ``transformers``: any masked or causal language model with attention.

    Attention is bidirectional, whatever the model was made for, and causal where it is asked for.
    Weights are new, or with ``pretrained`` those of a folder or of the hub, read from safetensors
    alone; no code comes with them. The time is not fed.

    The tables have as many rows as the run's vocabulary, or as ``config.vocab_size`` where that is
    more, rounded up to ``vocab_multiple``; only the vocabulary's are predicted. Rows that the
    pretrained weights lack are the mean of those that they have.

    With ``shift`` what stands under position i is read at position i − 1, where an autoregressive
    network says it; the first position, and the first of each document, are read at themselves.

    With ``pretrained`` and without ``architecture``, both ``architecture`` and ``config`` come
    from the model's config.json when the recipe is loaded, so that the saved recipe stands by
    itself; keys of ``config`` that the recipe has win. Dropout is off unless ``config`` says so.
    """

    architecture: str | None = option(
        None, doc="a model_type of transformers: bert, modernbert, gpt2, llama, qwen3, ..."
    )
    config: Config = option(
        factory=dict, doc="what the config class of the architecture takes, such as hidden_size"
    )
    config_none: tuple[str, ...] = option(
        (), doc="what it takes that is None, and something else by default, such as sliding_window"
    )
    pretrained: str | None = option(
        None, doc="where the first weights are: a local folder, or owner/name on the hub"
    )
    revision: str | None = option(
        None, doc="commit, tag or branch on the hub; unset: the newest, whose commit is kept"
    )
    shift: bool = option(False, doc="read what is under position i at position i − 1")
    mask_row: MaskRow = option(
        "auto",
        doc="the pretrained vector of the mask: mean, that of all tokens; keep, as it is; auto, "
        "mean where the model is an autoregressive one or lacks the mask",
    )
    ignore: tuple[str, ...] = option(
        (), doc="pretrained weights that this network has no place for, such as bert.pooler.*"
    )
    vocab_multiple: int = option(
        128, ge=1, doc="rows of the tables are rounded up to it, for the tensor cores"
    )

    supports: ClassVar[frozenset[str]] = frozenset(
        {"causal", "document_ids", "padding", "positions"}
    )
    length_multiple: ClassVar[int] = 1

    def resolved(self) -> Self:
        """The same with architecture and config of the pretrained model.

        Raises:
            DataError: where its config.json cannot be had.
        """
        if self.pretrained is None or self.architecture is not None:
            return self
        found = pretrained.read_config(self.pretrained, self.revision)
        read = configs.known_values(found.architecture, found.values)
        known = {**read, **dict.fromkeys(self.config_none), **self.config}
        none = {*self.config_none, *(key for key, value in known.items() if value is None)}
        return evolve(
            self,
            architecture=found.architecture,
            config={key: value for key, value in known.items() if value is not None},
            config_none=tuple(sorted(none)),
            revision=found.commit or self.revision,
        )

    def check(self, recipe: Recipe) -> Iterator[str]:
        """What the architecture does not know, and text or an objective that do not fit."""
        if self.pretrained is None and self.revision is not None:
            yield "revision: expected pretrained, too: the model whose revision it is"
        if self.architecture is None:
            if self.pretrained is None:
                yield _NOTHING
            return  # with pretrained, made in Python: there is nothing to look at yet
        yield from (
            f"config_none: {key} has a value in config; leave one of the two out"
            for key in self.config_none
            if key in self.config
        )
        problems = list(configs.problems(self.architecture, self.values))
        yield from problems or self._network_problems(recipe.data.length)
        if self.shift and _shifts_text(recipe.objective):
            yield (
                "shift: the objective shows text that is shifted already, so that a token would be "
                "predicted from those up to the last but one; leave one of the two out"
            )

    @property
    def values(self) -> dict[str, Any]:
        """What the config class is given."""
        return {**self.config, **dict.fromkeys(self.config_none)}

    def _network_problems(self, length: int) -> Iterator[str]:
        """What is wrong with the network itself, made without memory."""
        import torch

        try:
            with torch.device("meta"):
                network = self.build(Vocabulary(size=4, mask_id=3, eos_id=0))
        except RecipeError as error:
            yield from (line.removeprefix("[denoiser] ") for line in str(error).splitlines())
        else:
            yield from configs.length_problems(network.most_positions, length=length)

    def rows(self, vocab_size: int) -> int:
        """Rows of the tables for so many token ids."""
        given = self.config.get("vocab_size", 0)
        wanted = max(vocab_size, given) if isinstance(given, int) else vocab_size
        return -(-wanted // self.vocab_multiple) * self.vocab_multiple

    def build(self, vocab: Vocabulary) -> TransformersNetwork:
        """The network, with weights from torch's global generator.

        Raises:
            RecipeError: where ``transformers`` has no such network, or it cannot be one.
        """
        from mdmkit_hf.denoisers.network import TransformersNetwork

        resolved = self.resolved()
        if resolved.architecture is None:
            raise RecipeError(f"[denoiser] {_NOTHING}")
        return TransformersNetwork(resolved, vocab)

    def initialize(self, denoiser: nn.Module) -> None:
        """Give a network that `build` made its pretrained weights, if there are any.

        Raises:
            DataError: where they cannot be had, or do not fit by name or shape.
        """
        if self.pretrained is None:
            return
        from mdmkit_hf.denoisers.weights import load_weights

        folder = pretrained.weights_folder(self.pretrained, self.revision)
        load_weights(denoiser, folder, ignore=self.ignore, mask_row=self.mask_row)


def _shifts_text(objective: Any) -> bool:
    """Whether an objective says that it hands over next-token rows: they are shifted right."""
    return bool(getattr(objective, "shifts_text", False))
