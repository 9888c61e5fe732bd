"""The model that the harness asks: registered there as ``mdmkit``."""

from __future__ import annotations

import inspect
import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

import mdmkit
from mdmkit import RecipeError
from mdmkit.suggest import did_you_mean
from mdmkit_lm_eval.generation import Continued, Prompt, continuations
from mdmkit_lm_eval.likelihood import Answer, Asked, Key, Report, likelihoods
from mdmkit_lm_eval.protocol import Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from lm_eval.api.instance import Instance

_log = logging.getLogger(__name__)
SAMPLER = "sampler."


def _silent(what: str, done: int, total: int) -> None:
    """Where nobody wants to know how far it is."""


class MdmkitLM(LM):  # type: ignore[misc] # the harness has no types
    """A run, as the harness sees it.

    Attributes:
        trained: the run.
        protocol: how requests are answered.
        answers: what was found of each text that was scored.
        texts: what was generated for each request, and its repetitions.
        not_followed: what tasks asked of generation that the sampler's own options say here.
    """

    def __init__(
        self,
        run: str,
        *,
        runs_dir: str | None = None,
        checkpoint: int | None = None,
        ema: bool = True,
        device: str = "auto",
        dtype: str | None = None,
        batch_size: int | None = None,
        sampler: str | None = None,
        seed: int = 0,
        draws: int = 16,
        enumerate: int = 5,
        bos: bool = False,
        greedy: bool = True,
        max_gen_toks: int = 256,
        changes: Sequence[str] = (),
        notify: Callable[[str], None] = _log.warning,
        report: Report = _silent,
        **sampler_options: object,
    ) -> None:
        """Load the run.

        Args:
            run, runs_dir, checkpoint, ema, device: as for `mdmkit.open_run`.
            dtype: ``bf16`` or ``fp32``, of the network's forward; the run's own by default.
            batch_size: rows a network call; as in training by default.
            sampler: the name of a sampler to generate with, instead of the run's own.
            seed, draws, enumerate, bos, greedy, max_gen_toks: see `Protocol`.
            changes: to the table ``[sampler]``, as for ``--set``.
            notify: is told what a user should know.
            report: is told how far it is.
            sampler_options: named as in a recipe: ``sampler.steps``.

        Raises:
            MdmkitError: where the run cannot be opened or an option is wrong.
        """
        super().__init__()
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise RecipeError("mdmkit-lm-eval works in one process; start it without torchrun")
        self.protocol = Protocol(
            seed=seed,
            draws=draws,
            enumerate=enumerate,
            bos=bos,
            greedy=greedy,
            max_gen_toks=max_gen_toks,
        )
        self.protocol.check()
        if batch_size is not None and batch_size < 1:
            raise RecipeError(f"batch_size: expected at least 1 row, got {batch_size}")
        self.trained = mdmkit.open_run(
            str(run),
            runs_dir=runs_dir,
            checkpoint=checkpoint,
            ema=ema,
            device=device,
            precision=dtype,
            overrides=[*overrides(sampler, sampler_options), *changes],
            tables=("sampler",),
            notify=notify,
        )
        self._context = mdmkit.trained_context(self.trained, batch_size=batch_size, seed=seed)
        if bos and self._context.tokenizer.vocab.bos_id is None:
            raise RecipeError("bos: the run's tokenizer has no BOS token; leave it out")
        self._device = self.trained.device
        self._notify, self._report = notify, report
        self.answers: dict[Key, Answer] = {}
        self.texts: dict[Key, list[Continued]] = {}
        self.not_followed: dict[str, Mapping[str, Any]] = {}

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict[str, Any] | None = None
    ) -> MdmkitLM:
        """Make one from ``run=my-run,draws=8``, as the harness's own command does."""
        from lm_eval.utils import simple_parse_args_string

        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> MdmkitLM:
        """Make one from what the harness's own command gives.

        Its default device is ``cuda:0`` and its batch size a string, maybe ``auto``: where there
        is no such device or number, ours are taken.

        Raises:
            RecipeError: for an unknown or missing argument.
        """
        check_arguments(arg_dict)
        given = {k: v for k, v in (additional_config or {}).items() if v is not None}
        size, device = given.get("batch_size"), given.get("device")
        options = {}
        if size is not None and not str(size).startswith("auto"):
            options["batch_size"] = int(size)
        if device is not None and (torch.cuda.is_available() or "cuda" not in device):
            options["device"] = device
        return cls(**options | arg_dict)

    @property
    def tokenizer_name(self) -> str:
        """The fingerprint of the run's tokenizer."""
        return self.trained.tokenizer.fingerprint

    @property
    def max_length(self) -> int:
        """L, the tokens of a row."""
        return self._context.length

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Minus the NELBO of each continuation, and whether filling it in greedily gives it."""
        asked = [
            Asked(key=key, context=request.args[0], continuation=request.args[1])
            for key, request in zip(keys_of(requests), requests, strict=True)
        ]
        return [(-one.nats, bool(one.greedy)) for one in self._scored(asked, self.protocol.greedy)]

    def loglikelihood_rolling(self, requests: Sequence[Instance]) -> list[float]:
        """Minus the NELBO of each text, in windows."""
        asked = [
            Asked(key=key, context="", continuation=request.args[0])
            for key, request in zip(keys_of(requests), requests, strict=True)
        ]
        return [-one.nats for one in self._scored(asked, greedy=False)]

    def _scored(self, asked: Sequence[Asked], greedy: bool) -> list[Answer]:
        found = likelihoods(self._context, asked, self.protocol, greedy=greedy, report=self._report)
        self.answers |= {one.key: answer for one, answer in zip(asked, found, strict=True)}
        return found

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Text after each prompt, by the run's sampler, up to a stop string."""
        prompts = [
            Prompt(key=key, text=request.args[0], options=request.args[1])
            for key, request in zip(keys_of(requests), requests, strict=True)
        ]
        for prompt in prompts:
            if prompt.not_followed and prompt.key.task not in self.not_followed:
                self.not_followed[prompt.key.task] = prompt.not_followed
                wanted = ", ".join(f"{k}={v!r}" for k, v in prompt.not_followed.items())
                self._notify(
                    f"{prompt.key.task}: asks for {wanted}; here the options of the sampler decide"
                )
        found = continuations(
            self.trained,
            prompts,
            self.protocol,
            batch_size=self._context.batch_size,
            report=self._report,
        )
        for prompt, one in zip(prompts, found, strict=True):
            self.texts.setdefault(prompt.key, []).append(one)
        return [one.text for one in found]

    def get_model_info(self) -> dict[str, Any]:
        """What the harness writes of the model into its own results."""
        return {"mdmkit": self.provenance()}

    def provenance(self) -> dict[str, Any]:
        """Which weights, and how requests are answered; plain JSON."""
        context, protocol = self._context, self.protocol
        exact = context.objective.exact
        return {
            **self.trained.facts,
            "weights_sha256": self.trained.weights_sha256(),
            "tokenizer_fingerprint": context.tokenizer.fingerprint,
            "prediction": context.prediction,
            "length": context.length,
            "batch_size": context.batch_size,
            "device": str(self.trained.device),
            "seed": protocol.seed,
            "likelihood": "exact, by the chain rule" if exact else "minus the NELBO",
            "draws": protocol.draws,
            "enumerate": protocol.enumerate,
            "bos": protocol.bos,
            "greedy": protocol.greedy,
            "sampler": repr(self.trained.recipe.sampler),
            "max_gen_toks": protocol.max_gen_toks,
            "generation_kwargs_not_followed": self.not_followed,
        }


def keys_of(requests: Sequence[Instance]) -> list[Key]:
    """Which request each is; one that does not say which document it is of is one of its own."""
    return [
        Key(
            task=request.task_name or "",
            doc=place if request.doc_id is None else request.doc_id,
            index=request.idx,
        )
        for place, request in enumerate(requests)
    ]


def overrides(sampler: str | None, options: Mapping[str, object]) -> list[str]:
    """What changes the run's sampler, as for ``--set``.

    Raises:
        RecipeError: for an option of anything else.
    """
    if strangers := [name for name in options if not name.startswith(SAMPLER)]:
        raise RecipeError(_unknown(strangers))
    chosen = [] if sampler is None else [f"sampler.use={json.dumps(sampler)}"]
    return [*chosen, *(f"{name}={_toml(value)}" for name, value in options.items())]


def check_arguments(arguments: Mapping[str, object]) -> None:
    """Refuse arguments that `MdmkitLM` does not have.

    Raises:
        RecipeError: naming them.
    """
    if strangers := [
        name for name in arguments if name not in _ARGUMENTS and not name.startswith(SAMPLER)
    ]:
        raise RecipeError(_unknown(strangers))
    if "run" not in arguments:
        raise RecipeError("model_args: run is missing; expected run=DIRECTORY or run=NAME")


def _unknown(names: Sequence[str]) -> list[str]:
    problems = []
    for name in names:
        hint = did_you_mean(name, _ARGUMENTS)
        known = ", ".join([*_ARGUMENTS, "sampler.<option>"])
        problems.append(f"model_args: no argument {name!r}{hint}; known: {known}")
    return problems


def _toml(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


_ARGUMENTS = [
    name
    for name in inspect.signature(MdmkitLM.__init__).parameters
    if name not in ("self", "changes", "notify", "report", "sampler_options")
]

register_model("mdmkit")(MdmkitLM)
