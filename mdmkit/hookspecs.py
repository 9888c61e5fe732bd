"""The extension points: one argument-free hook each, returning ``{name: options class}``.

The name is what a recipe's ``use`` says. The class is a frozen, keyword-only attrs class whose
fields are the options (declare them with `mdmkit.option`). It either is the component or builds
it; `mdmkit.protocols` has the exact types, and the docstrings below the contracts.

A plugin is a module with functions of these names, marked with `hookimpl`, and an entry point in
group ``mdmkit``::

    [project.entry-points.mdmkit]
    my_plugin = "my_package.my_module"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import pluggy

from mdmkit import protocols

F = TypeVar("F")

PROJECT = "mdmkit"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def mdmkit_denoisers() -> Mapping[str, type[protocols.DenoiserOptions]]:
    """Backbones, for the table ``[denoiser]``.

    ``build(vocab)`` is called once a run, under a seeded generator, and returns a module with
    ``forward(tokens [B, L] int64, *, t [B] or None, attention) -> h [B, L, D]``, a public
    ``unembed(h [..., D]) -> logits [..., V]`` and ``blocks``, its repeated layers.

    Invariants: each prediction depends on xt (and t) alone, and the joint prediction factorises
    over positions; otherwise the NELBO is no bound. With ``attention.causal``, position i sees
    positions <= i only. ``supports`` says which attention features and whether ``t`` are
    understood. Rows do not influence each other. With ``cache`` among them the network has
    ``new_cache(rows, length)``; called with ``Attention(causal=True, cache=...)`` it takes any
    number of tokens, which follow those that the cache holds, and adds them to it. Options that
    take a network from elsewhere have ``resolved`` and ``initialize``; see
    `mdmkit.protocols.DenoiserOptions`.

    Example::

        @frozen(kw_only=True)
        class Bag:
            width: int = option(64, ge=1)
            supports: ClassVar[frozenset[str]] = frozenset()
            length_multiple: ClassVar[int] = 1

            def build(self, vocab: Vocabulary) -> nn.Module:
                return BagOfWords(vocab.size, self.width)

        @hookimpl
        def mdmkit_denoisers():
            return {"bag": Bag}
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def mdmkit_noise_schedules() -> Mapping[str, type[protocols.NoiseSchedule]]:
    """Noise schedules, for the table ``[noise_schedule]``.

    ``alpha(t)`` and ``dalpha(t)`` map ``[B] -> [B]`` and are called by objectives, samplers and
    ``mdmkit show``, with t in [0, 1] and in float64 or float32.

    Invariants: alpha falls strictly from 1 at t = 0 to 0 at t = 1 (a schedule that stops short
    says so in its docstring); ``dalpha`` is its derivative, negative inside (0, 1).

    Example::

        @frozen(kw_only=True)
        class Quadratic:
            def alpha(self, t): return 1 - t**2
            def dalpha(self, t): return -2 * t

        @hookimpl
        def mdmkit_noise_schedules():
            return {"quadratic": Quadratic}
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def mdmkit_time_samplers() -> Mapping[str, type[protocols.TimeSampler]]:
    """Densities of the training time t, for the table ``[time_sampler]``.

    ``at(step)`` returns an object with ``icdf(u) -> t`` and ``density(t)``, both ``[B] -> [B]``
    in float64 on the CPU. It is called once a step by the objective. Stratification happens in
    u, so that every density gets it for nothing; where no closed form exists,
    `mdmkit.diffusion.GridDensity` makes both from a density on a grid.

    Invariants: the density is non-negative and integrates to 1 over (0, 1); ``icdf`` is the
    inverse of its distribution function, increasing, with values inside (0, 1).

    A sampler that adapts has ``build(facts)``, which returns the live one; its optional
    ``observe(t [G], nll [G], count [G])`` gets the all-reduced statistics of the whole global
    batch after every step, ``validated(t, nll, count)`` those of every validation but that of the
    untrained network, and it implements torch's ``Stateful``.

    Example::

        @frozen(kw_only=True)
        class Triangle:
            def at(self, step): return self
            def icdf(self, u): return u.sqrt().clamp(max=1 - 2**-53)
            def density(self, t): return 2 * t

        @hookimpl
        def mdmkit_time_samplers():
            return {"triangle": Triangle}
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def mdmkit_mask_patterns() -> Mapping[str, type[protocols.MaskPattern]]:
    """Which positions are masked, for the table ``[mask_pattern]``.

    ``mask(rate= [B], noise= [B, L], row_noise= [B], member= [B], maskable= [B, L], step=) ->
    [B, L] bool`` is called by the objective for each micro-batch, by keyword, so that a pattern
    names what it looks at; ``rate(rate, member, size)`` states the marginal mask rate; ``group``
    says how many consecutive rows share one sequence and one row of noise, ``every_context``
    whether every set of visible tokens keeps a positive probability, and ``count_law`` how the
    number of masks follows from the rate.

    Invariants: the mask is a function of its arguments, a subset of ``maskable``, and masks each
    maskable position with probability ``rate(rate, member, size)``.

    Example::

        @frozen(kw_only=True)
        class Independent:
            group: ClassVar[int] = 1
            every_context: ClassVar[bool] = True
            count_law: ClassVar[str] = "binomial"

            def rate(self, rate, member, size): return rate
            def mask(self, *, rate, noise, maskable, **_):
                return (noise < rate[:, None]) & maskable

        @hookimpl
        def mdmkit_mask_patterns():
            return {"independent": Independent}
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def mdmkit_loss_weightings() -> Mapping[str, type[protocols.LossWeighting]]:
    """Weights of the masked cross-entropies, for the table ``[loss_weighting]``.

    ``weight(t=, alpha_t=, dalpha_t=, density=, mask=, mask_count=, token_count=, step=)`` is
    called by the objective for each micro-batch and returns ``[B]`` or ``[B, L]`` float64;
    ``normalizer`` names what the weighted sum is divided by.

    Invariants: finite and positive wherever a token is masked. Validation never uses it: it
    always reports the NELBO.

    Example::

        @frozen(kw_only=True)
        class Flat:
            normalizer: Normalizer = "masked"

            def weight(self, *, t, **_): return torch.ones_like(t)

        @hookimpl
        def mdmkit_loss_weightings():
            return {"flat": Flat}
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def mdmkit_objectives() -> Mapping[str, type[protocols.ObjectiveOptions]]:
    """What is trained, for the table ``[objective]``.

    ``build(context)`` returns the live objective. Each step the loop calls ``corrupt(batch,
    draws)`` for all micro-batches first (on the CPU), sums the denominators over micro-batches
    and ranks, then calls ``loss(denoiser, noised)`` inside the root module's forward and divides
    by that sum. Evaluation calls ``bound(denoiser, batch, draws)``: an unbiased estimate of each
    row's NELBO in nats (or its exact NLL, if ``exact``), whatever the training weighting was.

    Invariants: everything random comes from ``draws``; ``loss`` returns sums, never means;
    state keyed by the rows of the global batch is ``Stateful``.

    Example::

        @frozen(kw_only=True)
        class NextToken:
            needs: ClassVar[frozenset[str]] = frozenset({"causal"})
            prediction: ClassVar[Prediction] = "next_token"

            def build(self, context: ObjectiveContext) -> Objective:
                return LiveNextToken(context.vocab)

        @hookimpl
        def mdmkit_objectives():
            return {"next_token": NextToken}
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def mdmkit_samplers() -> Mapping[str, type[protocols.Sampler]]:
    """Generation, for the table ``[sampler]``.

    ``generate(tokens [B, L] int64, context)`` is called by ``mdmkit sample``, at the end of a run,
    and by evaluators that generate. It is an iterator over states; it calls the network through
    ``context.logits`` and takes its randomness from ``context.uniform`` alone, so that the same
    seed gives the same text whatever the batch.

    Invariants: a token visible at the start never changes; the last state holds no mask; ``step``
    counts the states from 1, and ``network_evaluations`` the calls; a call shows every row of the
    batch, or goes through ``context.logits_of(rows)``; categorical draws are made in float64.

    Example::

        @frozen(kw_only=True)
        class Greedy:
            prediction: ClassVar[Prediction] = "masked"

            def generate(self, tokens, context):
                logits = context.logits(tokens, None, Attention())
                logits[..., context.vocab.mask_id] = -torch.inf
                hidden = tokens == context.vocab.mask_id
                tokens = torch.where(hidden, logits.argmax(-1), tokens)
                yield Generation(tokens=tokens, step=1, network_evaluations=1)

        @hookimpl
        def mdmkit_samplers():
            return {"greedy": Greedy}
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def mdmkit_evaluators() -> Mapping[str, type[protocols.Evaluator]]:
    """Evaluations, for the tables ``[evaluators.<label>]``.

    ``build(context)`` returns a live evaluation. Its driver calls ``update(i)`` for i in
    ``range(len(evaluation))`` on every rank, then ``compute()``, which returns named
    measurements, each with its standard error, reduced over ranks; ``provenance`` says what was
    measured on what. It may also have ``pictures()``: lines and heat maps, which ``mdmkit report``
    draws. Options with ``subject`` make it an analysis, which ``mdmkit analyze`` runs.

    Invariants: no number without an error; ``len`` is equal on every rank (each ``update`` may
    hold collectives).

    Example::

        @frozen(kw_only=True)
        class Entropy:
            split: Split = "validation"

            def build(self, context: EvaluationContext) -> Evaluation:
                return LiveEntropy(context.blocks(self.split))

        @hookimpl
        def mdmkit_evaluators():
            return {"entropy": Entropy}
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def mdmkit_corpora() -> Mapping[str, type[protocols.Corpus]]:
    """Text, for the table ``[data.corpus]``.

    ``documents(split)`` is called when a tokenizer is trained or a split is tokenized and iterates
    over the texts of ``train``, ``validation`` or ``test``; ``fingerprint(split)`` changes whenever
    they do, and so decides whether tokens that were kept still fit; ``describe(split)`` is the
    provenance that every number measured on them will carry. Of text whose true entropy is known
    it may say so in ``masked_entropy(masked, length)``; analyses draw it beside a network's loss.

    Invariants: the order of documents never changes; what cannot be had is a `DataError` that
    names the ways out.

    Example::

        @frozen(kw_only=True)
        class Digits:
            def documents(self, split): return (str(i) for i in range(1000))
            def fingerprint(self, split): return f"digits-1000-{split}"
            def describe(self, split): return {"source": "the natural numbers"}

        @hookimpl
        def mdmkit_corpora():
            return {"digits": Digits}
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def mdmkit_trackers() -> Mapping[str, type[protocols.Tracker]]:
    """Where metrics go, for the tables ``[trackers.<label>]``.

    ``build(run)`` is called on rank 0 and returns a live tracker: ``resume(step)`` once at the
    start, ``log(metrics)`` for each line (``step``, ``tokens``, ``seconds`` and named figures),
    ``close()`` at the end. ``metrics.jsonl`` is always written, whatever trackers there are.

    Invariants: lines past the step given to ``resume`` are forgotten.

    Example::

        @frozen(kw_only=True)
        class Print:
            def build(self, run): return self
            def resume(self, step): ...
            def log(self, metrics): print(metrics)
            def close(self): ...

        @hookimpl
        def mdmkit_trackers():
            return {"print": Print}
    """
    raise AssertionError("a hook specification is never called")
