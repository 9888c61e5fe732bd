"""What a bench found."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from attrs import frozen

from mdmkit.benchmarking.find_batch import LargestBatch
from mdmkit.benchmarking.machine import Machine
from mdmkit.benchmarking.memory import Memory
from mdmkit.benchmarking.profiling import Profile
from mdmkit.benchmarking.roofline import Part, ceiling_of
from mdmkit.costs import Flops


@frozen(kw_only=True)
class Spread:
    """The middle of some times, seconds.

    Attributes:
        median, lower, upper: the three quartiles.
        count: how many there are.
    """

    median: float
    lower: float
    upper: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """That of at least one value."""
        if len(values) == 1:
            return cls(median=values[0], lower=values[0], upper=values[0], count=1)
        lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median=median, lower=lower, upper=upper, count=len(values))


@frozen(kw_only=True)
class Sizes:
    """What a step consists of.

    Attributes:
        rows: of the global batch.
        micro_batches: of each rank.
        length, vocab_size: L; V.
        parameters: of the network.
        updated_parameters: that this rank updates.
        scored_share: of all positions, those whose logits are computed.
        causal_share: of all rows, those of next-token prediction.
    """

    rows: int
    micro_batches: int
    length: int
    vocab_size: int
    parameters: int
    updated_parameters: int
    scored_share: float
    causal_share: float


@frozen(kw_only=True)
class Utilisation:
    """How much of the peak is used, between 0 and 1.

    Attributes:
        model: FLOPs that the mathematics asks for, over the peak (MFU; arXiv 2204.02311, app. B).
        hardware: with those of the forward that activation checkpointing does again (HFU); None
            where how many those are is not known.
        tflops: 1e12 FLOP/s of the mathematics, over all devices.
        peak_tflops: the sum of the measured peaks.
    """

    model: float
    hardware: float | None
    tflops: float
    peak_tflops: float


@frozen(kw_only=True)
class BenchResult:
    """Everything that `bench` measured; times are seconds, rank 0's where ranks have their own.

    Attributes:
        recipe: name, hash and what was set.
        text: ``real`` or ``synthetic``.
        devices: how many processes, each with a device.
        machines: the ceilings, by rank.
        sizes: what a step consists of.
        flops_per_token: of a forward; None where they cannot be counted.
        step: the timed ones.
        first_step: of the very first.
        tokens_per_second: of the global batch, by the median step.
        cpu_seconds: that rank 0's threads computed a second of the timed steps: with one thread on
            a CPU that nobody else uses, about 1.
        phases: by name, in steps of their own.
        phase_step: these steps; each is the sum of its phases.
        utilisation: of the measured peaks; None without FLOPs.
        memory: the peak, by rank.
        compile_seconds: the first step without a warm one, where blocks are compiled.
        profile: what the profiler saw.
        roofline: where the step goes, on rank 0; empty without FLOPs.
        largest_batch: if it was looked for.
        losses: training loss by step, as the run's log has it.
        notes: what is not as in training, and how numbers were got.
        environment: versions, device, threads.
        command: what was typed, if it was.
    """

    recipe: Mapping[str, Any]
    text: str
    devices: int
    machines: Sequence[Machine]
    sizes: Sizes
    flops_per_token: Flops | None
    step: Spread
    first_step: float
    tokens_per_second: float
    cpu_seconds: float
    phases: Mapping[str, Spread]
    phase_step: Spread
    utilisation: Utilisation | None
    memory: Sequence[Memory]
    compile_seconds: float | None
    profile: Profile
    roofline: Sequence[Part]
    largest_batch: LargestBatch | None
    losses: Mapping[int, float]
    notes: Sequence[str]
    environment: Mapping[str, Any]
    command: Sequence[str] | None = None

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON, with the ceilings that it is held against."""
        plain = attrs.asdict(self)
        for found, machine in zip(plain["machines"], self.machines, strict=True):
            found |= {"peak_flops": machine.flops, "peak_bandwidth": machine.bandwidth}
        if self.flops_per_token is not None:
            plain["flops_per_token"]["training"] = self.flops_per_token.training
        plain["ceiling_step"] = ceiling_of(self.roofline)
        return plain


def utilisation(
    *,
    training_flops: float,
    repeated_flops: float | None,
    tokens_per_second: float,
    peaks: Sequence[float],
) -> Utilisation:
    """FLOPs done a second over those that could be.

    Args:
        training_flops: a token, forward and backward.
        repeated_flops: a token, of the forward that is done again; None where not known.
        tokens_per_second: over all devices.
        peaks: FLOP/s of each device.
    """
    peak = sum(peaks)
    done = training_flops * tokens_per_second
    again = None if repeated_flops is None else repeated_flops * tokens_per_second
    return Utilisation(
        model=done / peak,
        hardware=None if again is None else (done + again) / peak,
        tflops=done / 1e12,
        peak_tflops=peak / 1e12,
    )
