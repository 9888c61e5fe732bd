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
            DataError: where it cannot be had, or is no causal language model.
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
        return cls(
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
            network = AutoModelForCausalLM.from_pretrained(
                folder, use_safetensors=True, dtype=dtype, **common
            )
    except Exception as error:  # the package raises whatever its many parts do
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(
            f"{OPTION}: {folder} cannot be loaded as a causal language model: {said}; expected one "
            "that the installed transformers knows, with its tokenizer"
        ) from error
    return network, tokenizer


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
