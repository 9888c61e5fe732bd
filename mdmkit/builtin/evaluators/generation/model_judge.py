"""A published causal language model as judge, by the package ``transformers``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from attrs import frozen
from torch import Tensor
from torch.nn import functional

from mdmkit.builtin.evaluators.generation.judge import ModelPrecision, require_known
from mdmkit.builtin.evaluators.generation.model_files import OPTION, ModelFiles
from mdmkit.errors import DataError, MissingPackageError
from mdmkit.head import LOGITS_AT_ONCE

_DTYPES: Mapping[ModelPrecision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
}
_ROUNDING: Mapping[ModelPrecision, float] = {"float32": 1e-3, "bfloat16": 0.1}  # nats
_SHOWN = 3  # names of weights in a message


@frozen(kw_only=True, eq=False)
class ModelJudge:
    """A model of ``transformers`` as `LiveJudge`.

    Its weights come from safetensors alone, and no code of its repository is run.

    Attributes:
        network, tokenizer: of that package.
        start_id: in front of each row: BOS, else EOS.
        facts: which model, as plain JSON.
    """

    name: str
    network: Any
    tokenizer: Any
    start_id: int
    device: torch.device
    facts: Mapping[str, Any]

    @classmethod
    def open(
        cls, model: str, *, revision: str | None, dtype: ModelPrecision, device: torch.device
    ) -> ModelJudge:
        """Load it.

        Raises:
            MissingPackageError: without the package.
            DataError: where it cannot be had, lacks weights, or is no causal language model.
        """
        if find_spec("transformers") is None:
            raise MissingPackageError("judge.model", "transformers", extra="judge")
        files = ModelFiles.find(model, revision)
        network, tokenizer = _load(files, _DTYPES[dtype])
        starts = (tokenizer.bos_token_id, tokenizer.eos_token_id)
        start = next((token for token in starts if token is not None), None)
        if start is None:
            raise DataError(
                f"{OPTION}: {model} has neither a BOS nor an EOS token; expected one, to stand in "
                "front of a text, so that its first token can be scored"
            )
        judge = cls(
            name=f'judge "{model}"',
            network=network.to(device).eval(),
            tokenizer=tokenizer,
            start_id=start,
            device=device,
            facts={
                "kind": "model",
                "model": model,
                "commit": files.commit,
                "files_sha256": dict(files.sha256()),
                "dtype": dtype,
            },
        )
        if not judge.looks_back_alone(_ROUNDING[dtype]):
            raise DataError(
                f"{OPTION}: {model} is no causal language model: what it says of a token changes "
                "with the tokens behind it, for it looks at what follows; expected one that reads "
                "from left to right, such as gpt2-large"
            )
        return judge

    def looks_back_alone(self, rounding: float) -> bool:
        """Whether two rows cost the same up to the token in which they differ, in nats."""
        width = min(self.context or 4, 4)
        tokens = torch.full((2, width), self.start_id)
        tokens[1, -2] = 0 if self.start_id else 1
        scored = (torch.arange(width) < width - 2).expand(2, -1)
        one, other = self.nll(tokens, scored)
        return torch.allclose(one, other, rtol=0.0, atol=rounding, equal_nan=True)

    @property
    def context(self) -> int | None:
        """Positions that it was made for; None where its configuration names none."""
        found = getattr(self.network.config, "max_position_embeddings", None)
        return found if isinstance(found, int) and found > 0 else None

    @property
    def boundary_id(self) -> int | None:
        """EOS, else BOS."""
        end = self.tokenizer.eos_token_id
        return self.start_id if end is None else int(end)

    @property
    def fill_id(self) -> int:
        """The start token."""
        return self.start_id

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Which model, of which files, in what precision."""
        return {**self.facts, "context": self.context}

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        with _quiet():
            ids: list[list[int]] = self._ids(list(texts))
        require_known(
            self.name, texts, ids, self.tokenizer.unk_token_id, lambda text: self._ids([text])[0]
        )
        return ids

    def _ids(self, texts: list[str]) -> Any:
        encoded = self.tokenizer(texts, add_special_tokens=False, split_special_tokens=True)
        return encoded["input_ids"]

    def nll(self, tokens: Tensor, scored: Tensor) -> Tensor:
        """Next-token cross-entropies, ``[B, L]`` float64; few rows at a time, for the logits."""
        most = LOGITS_AT_ONCE.get(self.device.type, LOGITS_AT_ONCE["cuda"])
        vocab_size = getattr(self.network.config, "vocab_size", len(self.tokenizer))
        size = max(1, most // (tokens.shape[1] * vocab_size))
        parts = [
            self._nll(*part)
            for part in zip(torch.split(tokens, size), torch.split(scored, size), strict=True)
        ]
        return torch.cat(parts)

    def _nll(self, tokens: Tensor, scored: Tensor) -> Tensor:
        start = torch.full_like(tokens[:, :1], self.start_id)
        inputs = torch.cat([start, tokens[:, :-1]], dim=-1).to(self.device)
        with torch.no_grad():
            logits = self.network(input_ids=inputs, use_cache=False).logits  # [B, L, V]
            mask = scored.to(self.device)
            targets = tokens.to(self.device)[mask]
            nll = functional.cross_entropy(logits[mask].float(), targets, reduction="none")
        found = torch.zeros(scored.shape, dtype=torch.float64)
        return found.masked_scatter(scored, nll.double().cpu())

    def features(self, tokens: Tensor, counts: Tensor) -> Tensor:
        """``[B, D]``, the last hidden state after the text."""
        start = tokens.new_full((len(tokens), 1), self.start_id)
        inputs = torch.cat([start, tokens], dim=-1).to(self.device)
        with torch.no_grad():
            found = self.network.base_model(input_ids=inputs, use_cache=False)
        h: Tensor = found.last_hidden_state  # [B, L + 1, D]
        return h[torch.arange(len(h)), counts].float().cpu()


def _load(files: ModelFiles, dtype: torch.dtype) -> tuple[Any, Any]:
    """Network and tokenizer, from the folder alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = str(files.folder)
    common: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, **common)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                use_safetensors=True,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                **common,
            )
    except Exception as error:  # the package raises whatever its many parts do
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(
            f"{OPTION}: {folder} cannot be loaded as a causal language model: {said}; expected one "
            "that the installed transformers knows, with its tokenizer"
        ) from error
    network, found = loaded
    _require_all_weights(folder, found)
    return network, tokenizer


def _require_all_weights(folder: str, found: Mapping[str, Any]) -> None:
    """Refuse weights that are not those of the network; the package makes up what it lacks.

    Args:
        folder: for the message.
        found: what the package says of loading; tied weights and known leftovers are not in it.
    """
    kinds = {"lacks": "missing_keys", "has others": "unexpected_keys", "misfits": "mismatched_keys"}
    said = []
    for word, key in kinds.items():
        names = sorted(name if isinstance(name, str) else name[0] for name in found.get(key, ()))
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        said += [f"{word}: {', '.join(names[:_SHOWN])}{more}"] if names else []
    if said:
        raise DataError(
            f"{OPTION}: {folder}: its weights are not those of the network that config.json names "
            f"({'; '.join(said)}); expected each weight by its name and of its size"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the package's bars and warnings; its settings are put back after."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
