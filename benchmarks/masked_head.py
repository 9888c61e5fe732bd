"""A training step whose logits exist where the loss is, against steps with more of them.

    python benchmarks/masked_head.py > benchmarks/results/masked_head.json
    python benchmarks/masked_head.py --device cuda --width 768 --depth 12 --heads 12 --length 1024

The network is `dit` without adaLN; a step is forward, backward, clipping and fused AdamW on one
micro-batch, half of it masked. Each way to the loss runs in a process of its own: `peak_mb` is the
most memory that the process ever had (on CUDA: that was allocated) beyond what it had with weights
and optimizer state, before its first step. Ways:

- `all`: logits of all positions, cross-entropy of all of them, weight 0 where nothing is masked;
- `masked`: logits of the masked positions, all kept for the backward pass;
- `recomputed`: those, in chunks that the backward pass makes again;
- `fused`: `torch.nn.functional.linear_cross_entropy` in chunks, where torch has it;
- `chunks`: `mdmkit.head.weighted_loss`.

Times are medians; the ways take turns, so that a busy moment of the machine meets all of them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from mdmkit import head
from mdmkit.builtin.denoisers.dit import Dit, DitNetwork
from mdmkit.diffusion import masked_nll
from mdmkit.environment import environment
from mdmkit.head import weighted_loss
from mdmkit.network import autocast
from mdmkit.values import Attention, Noised, Vocabulary

MASK = 50257
Way = Callable[[DitNetwork, Noised], Tensor]


def all_logits(network: DitNetwork, sample: Noised) -> Tensor:
    h = network(sample.inputs)
    nll = masked_nll(network.unembed(h).flatten(0, 1), sample.targets.flatten(), MASK)
    return (nll * (sample.weights * sample.in_loss).flatten()).sum()


def at_masks(network: DitNetwork, sample: Noised) -> tuple[Tensor, Tensor, Tensor]:
    places = sample.placed().places
    h = network(sample.inputs).flatten(0, 1).index_select(0, places)
    return h, sample.targets.flatten()[places], sample.weights.flatten()[places]


def masked(network: DitNetwork, sample: Noised) -> Tensor:
    h, targets, weights = at_masks(network, sample)
    return (masked_nll(network.unembed(h), targets, MASK) * weights).sum()


def recomputed(network: DitNetwork, sample: Noised) -> Tensor:
    h, targets, weights = at_masks(network, sample)
    rows = head.chunk_rows(MASK + 1, h.device)

    def part(h: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        return (masked_nll(network.unembed(h), targets, MASK) * weights).sum()

    parts = zip(h.split(rows), targets.split(rows), weights.split(rows), strict=True)
    return torch.stack([checkpoint(part, *p, use_reentrant=False) for p in parts]).sum()


def fused(network: DitNetwork, sample: Noised) -> Tensor:
    """The same but for the mask's logit, which the fused op cannot leave out."""
    h, targets, weights = at_masks(network, sample)
    layer = network.output_layer.linear
    nll = functional.linear_cross_entropy(
        h, layer.weight, targets, linear_bias=layer.bias, reduction="none",
        options=torch.nn.LinearCrossEntropyOptions(),
    )  # fmt: skip
    return (nll * weights).sum()


def chunks(network: DitNetwork, sample: Noised) -> Tensor:
    return weighted_loss(network, sample, MASK).total


WAYS: dict[str, Way] = {
    "all": all_logits,
    "masked": masked,
    "recomputed": recomputed,
    "chunks": chunks,
}
if hasattr(torch.nn, "LinearCrossEntropyOptions"):
    WAYS["fused"] = fused


def memory(device: torch.device, *, most: bool) -> float:
    """MiB that this process has, or has had at most."""
    if device.type == "cuda":
        return (torch.cuda.max_memory_allocated if most else torch.cuda.memory_allocated)() / 2**20
    key = "VmHWM" if most else "VmRSS"
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status: no {key}")


def worker(
    way: str, args: argparse.Namespace, precision: str, logits: int | None, pipe: Connection
) -> None:
    """Steps, one at each message, until the message says False; then the peak."""
    device = torch.device(args.device)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if logits is not None:
        head.LOGITS_AT_ONCE[device.type] = logits
    options = Dit(width=args.width, depth=args.depth, heads=args.heads, adaln=False)
    network = options.build(Vocabulary(size=MASK + 1, mask_id=MASK)).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    for parameter in network.parameters():
        optimizer.state[parameter] = {
            "step": torch.zeros((), device=device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    targets = torch.randint(0, MASK, (args.batch, args.length))
    in_loss = torch.rand(targets.shape) < 0.5
    sample = Noised(
        inputs=targets.where(~in_loss, MASK), targets=targets, in_loss=in_loss,
        weights=torch.ones(targets.shape), t=None, attention=Attention(),
        denominator=in_loss.sum().double(),
    ).placed().to(device)  # fmt: skip
    before = memory(device, most=False)
    while pipe.recv():
        start = time.perf_counter()
        with autocast(device, precision):
            total = WAYS[way](network, sample)
        (total / sample.denominator.item()).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss = total.item()  # waits for the device
        pipe.send((time.perf_counter() - start, loss / float(sample.denominator)))
    pipe.send(memory(device, most=True) - before)


def race(
    contenders: dict[str, tuple[str, int | None]], args: argparse.Namespace, precision: str
) -> dict[str, Any]:
    """Seconds a step and peak memory of each contender: (way, logits at once)."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    for name, (way, logits) in contenders.items():
        pipes[name], theirs = context.Pipe()
        context.Process(target=worker, args=(way, args, precision, logits, theirs)).start()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    losses: dict[str, float] = {}
    for turn in range(args.steps + 1):
        for name, pipe in pipes.items():
            pipe.send(True)
            seconds, loss = pipe.recv()
            losses.setdefault(name, loss)
            if turn:  # the first is a warm-up
                times[name].append(seconds)
    found: dict[str, Any] = {}
    for name, pipe in pipes.items():
        pipe.send(False)
        found[name] = {
            "seconds": round(statistics.median(times[name]), 4),
            "fastest": round(min(times[name]), 4),
            "slowest": round(max(times[name]), 4),
            "peak_mb": round(pipe.recv(), 1),
            "first_loss": losses[name],
        }
        print(precision, name, found[name], file=sys.stderr)
    return found


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    result: dict[str, Any] = {
        "command": "python benchmarks/masked_head.py " + " ".join(sys.argv[1:]),
        "settings": vars(args) | {"vocabulary": MASK + 1, "masked": 0.5},
        "environment": environment(torch.device(args.device)),
    }
    for precision in ("fp32", "bf16"):
        ways = race({way: (way, None) for way in WAYS}, args, precision)
        everything, ours = ways["all"], ways["chunks"]
        result[precision] = {
            "ways": ways,
            "speedup_over_all": round(everything["seconds"] / ours["seconds"], 2),
            "memory_of_all": round(ours["peak_mb"] / everything["peak_mb"], 3),
        }
    sizes = {f"2^{k}": ("chunks", 2**k) for k in (22, 23, 24, 25, 26, 27)}
    result["logits_at_once"] = {p: race(sizes, args, p) for p in ("fp32", "bf16")}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
