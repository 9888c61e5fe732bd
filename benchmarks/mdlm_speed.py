"""A training step of ours against one of MDLM's own code, on one machine in one run.

    git clone https://github.com/kuleshov-group/mdlm PATH
    python benchmarks/mdlm_speed.py --mdlm PATH > benchmarks/results/mdlm_speed.json
    python benchmarks/mdlm_speed.py --mdlm PATH --device cuda --width 768 --depth 12 --heads 12 \\
        --length 1024 --batch 32 --compile

Both train the same network (MDLM's DiT with adaLN, dropout .1, V = 50258) in bfloat16 autocast on
the same masked batch, with the NELBO's weight, fused AdamW and clipping. Theirs is
`models/dit.py` and `_subs_parameterization` of `diffusion.py` as they stand in PATH; only
`flash_attn`, where it is not installed, is stood in for by torch's own attention, and
`torch.cuda.amp.autocast` by that of the device. Ours is `dit` and `masked_diffusion`. With
``--compile`` both are measured compiled, too: theirs as a whole (a variant that cannot be compiled
is said to have failed), ours block by block with the head.
Each variant runs in a process of its own, by turns; seconds are medians of a step.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import importlib.util
import json
import multiprocessing
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mdmkit.builtin.denoisers.dit import Dit
from mdmkit.environment import environment
from mdmkit.head import chunk_rows, weighted_loss
from mdmkit.values import Attention, Noised, Vocabulary

V, MASK, DROPOUT, EPS = 50258, 50257, 0.1, 1e-3


def stand_ins(device: str) -> None:
    """Modules that their file imports and that may be missing; real ones are left alone."""

    def rotate(qkv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = qkv.unbind(2)  # each [B, L, H, d]
        cos, sin = (torch.cat([part, part], -1)[None, :, None] for part in (cos, sin))

        def turn(x: Tensor) -> Tensor:
            first, second = x.chunk(2, dim=-1)
            return x * cos + torch.cat([-second, first], -1) * sin

        return torch.stack([turn(q), turn(k), v], 2)

    def attention(qkv: Tensor, _: Tensor, length: int, *__: Any, **___: Any) -> Tensor:
        q, k, v = qkv.view(-1, length, *qkv.shape[1:]).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v)  # [B, H, L, d]
        return mixed.transpose(1, 2).flatten(0, 1)

    def module(name: str, **contents: Any) -> None:
        with contextlib.suppress(ImportError):
            if importlib.util.find_spec(name) is not None:
                return
        made = types.ModuleType(name)
        vars(made).update(contents)
        sys.modules[name] = made
        if "." in name:
            above, _, own = name.rpartition(".")
            setattr(sys.modules[above], own, made)

    module("flash_attn")
    module("flash_attn.layers")
    module("flash_attn.layers.rotary", apply_rotary_emb_qkv_=rotate)
    module("flash_attn.flash_attn_interface", flash_attn_varlen_qkvpacked_func=attention)
    module("omegaconf")

    def autocast(enabled: bool = True, dtype: torch.dtype | None = None) -> Any:
        # float32 is no autocast of a CPU: there it means none, as on a GPU
        on = enabled and dtype != torch.float32
        return torch.autocast(device, dtype=torch.bfloat16, enabled=on)

    torch.cuda.amp.autocast = autocast  # type: ignore[assignment, misc]


def theirs(args: argparse.Namespace, compiled: bool) -> tuple[nn.Module, Callable[..., Tensor]]:
    """Their network, and the sum of their loss over a batch."""
    stand_ins(args.device)
    file = args.mdlm / "models" / "dit.py"
    spec = importlib.util.spec_from_file_location("mdlm_dit", file)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    tree = ast.parse((args.mdlm / "diffusion.py").read_text(encoding="utf-8"))
    (method,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "_subs_parameterization"
    )
    space: dict[str, Any] = {"torch": torch}
    exec(compile(ast.Module([method], []), "diffusion.py", "exec"), space)
    model = types.SimpleNamespace(
        hidden_size=args.width, n_heads=args.heads, n_blocks=args.depth, cond_dim=128,
        dropout=DROPOUT, scale_by_sigma=True,
    )  # fmt: skip
    network = loaded.DIT(types.SimpleNamespace(model=model), V)
    run = torch.compile(network) if compiled else network
    self = types.SimpleNamespace(mask_index=MASK, neg_infinity=-1e6)

    def loss(sample: Noised) -> Tensor:
        with torch.autocast(args.device, torch.bfloat16):
            logits = run(sample.inputs, torch.zeros(len(sample.inputs), device=args.device))
            log_p = space["_subs_parameterization"](self, logits, sample.inputs)
            at_truth = log_p.gather(-1, sample.targets[:, :, None]).squeeze(-1)
            return -(at_truth * sample.weights).sum()

    return network, loss


def ours(args: argparse.Namespace, compiled: bool) -> tuple[nn.Module, Callable[..., Tensor]]:
    """Our network, and the sum of our loss over a batch."""
    options = Dit(width=args.width, depth=args.depth, heads=args.heads, dropout=DROPOUT)
    network = options.build(Vocabulary(size=V, mask_id=MASK))
    if compiled:
        for block in network.blocks:
            block.compile()

    def loss(sample: Noised) -> Tensor:
        with torch.autocast(args.device, torch.bfloat16):
            return weighted_loss(network, sample, MASK).total

    return network, loss


def batch(args: argparse.Namespace, fill: int) -> Noised:
    """One micro-batch, masked at stratified times and weighted by 1/t."""
    torch.manual_seed(1)
    tokens = torch.randint(0, MASK, (args.batch, args.length))
    t = EPS + (1 - EPS) * (torch.arange(args.batch) + torch.rand(args.batch)) / args.batch
    in_loss = torch.rand(tokens.shape) < t[:, None]
    return Noised(
        inputs=tokens.where(~in_loss, MASK), targets=tokens, in_loss=in_loss,
        weights=(1 / t)[:, None].expand(tokens.shape).contiguous(), t=None,
        attention=Attention(), denominator=torch.tensor(float(tokens.numel())),
    ).placed(fill)  # fmt: skip


def worker(args: argparse.Namespace, whose: str, compiled: bool, pipe: Connection) -> None:
    """A step at each message, until one says False; then the peak memory in MiB."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    network, loss_of = (theirs if whose == "mdlm" else ours)(args, compiled)
    network.to(args.device).train()
    fill = chunk_rows(V, torch.device(args.device), args.batch * args.length)
    sample = batch(args, fill if compiled and whose == "mdmkit" else 1)
    there = sample.to(torch.device(args.device))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-4, fused=True)
    while pipe.recv():
        start = time.perf_counter()
        try:
            loss = loss_of(there) / sample.denominator.item()
        except Exception as error:  # torch.compile does not take everything
            pipe.send(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
            return
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        value = loss.item()  # waits for the device
        pipe.send((time.perf_counter() - start, value))
    if args.device == "cuda":
        pipe.send(torch.cuda.max_memory_allocated() / 2**20)
    else:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        pipe.send(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def revision(path: Path) -> dict[str, str]:
    """Which version of their code it is."""
    found = subprocess.run(
        ["git", "-C", str(path), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    dit = (path / "models" / "dit.py").read_bytes()
    return {"commit": found.stdout.strip(), "dit.py": hashlib.sha256(dit).hexdigest()}


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mdlm", type=Path, required=True)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    for name, default in (
        ("width", 256), ("depth", 4), ("heads", 4), ("length", 128), ("batch", 16),
        ("steps", 7), ("warmup", 2), ("threads", 2),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    variants = [(who, how) for how in ([False, True] if args.compile else [False])
                for who in ("mdlm", "mdmkit")]  # fmt: skip
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for who, compiled in variants:
        name = who + (" compiled" if compiled else "")
        pipes[name], end = context.Pipe()
        context.Process(target=worker, args=(args, who, compiled, end), daemon=True).start()
    times: dict[str, list[float]] = {name: [] for name in pipes}
    losses: dict[str, list[float]] = {name: [] for name in pipes}
    failed: dict[str, str] = {}
    for turn in range(args.warmup + args.steps):
        for name, pipe in [*pipes.items()]:
            pipe.send(True)
            answer = pipe.recv()
            if isinstance(answer, str):
                failed[name] = answer
                del pipes[name]
                continue
            seconds, loss = answer
            losses[name].append(round(loss, 5))
            if turn >= args.warmup:
                times[name].append(seconds)
    found: dict[str, Any] = {}
    for name, pipe in pipes.items():
        pipe.send(False)
        seconds = statistics.median(times[name])
        found[name] = {
            "seconds": round(seconds, 4),
            "fastest": round(min(times[name]), 4),
            "slowest": round(max(times[name]), 4),
            "tokens_per_second": round(args.batch * args.length / seconds, 1),
            "peak_mb": round(pipe.recv(), 1),
            "losses": losses[name],
        }
    best = {
        who: max(e["tokens_per_second"] for n, e in found.items() if n.split()[0] == who)
        for who in ("mdlm", "mdmkit")
    }
    settings = {k: v for k, v in vars(args).items() if k != "mdlm"}
    print(json.dumps({
        "command": "python benchmarks/mdlm_speed.py --mdlm PATH",
        "settings": settings,
        "mdlm": revision(args.mdlm) | {"flash_attn": bool(importlib.util.find_spec("flash_attn"))},
        "variants": found,
        "failed": failed,
        "speedup_of_the_best": round(best["mdmkit"] / best["mdlm"], 2),
        "environment": environment(torch.device(args.device)),
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
