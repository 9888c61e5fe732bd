"""Attention on a CPU: torch's fused op against the plain formula, forward and backward.

    python benchmarks/cpu_attention.py

It decides what `mdmkit.builtin.denoisers.attention.attend` takes for short sequences. One thread;
the best of 20 calls, in milliseconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mdmkit.builtin.denoisers.attention import SHORT, attend
from mdmkit.environment import environment

ROWS, HEADS, WIDTH = 32, 4, 32


def best(attention: Callable[[Tensor, Tensor, Tensor], Tensor], length: int) -> float:
    """Milliseconds of one forward and backward in bfloat16."""
    shape = (ROWS, HEADS, length, WIDTH)
    q, k, v = (torch.randn(shape, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    upstream = torch.randn(shape, dtype=torch.bfloat16)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        attention(q, k, v).backward(upstream)
        times.append(time.perf_counter() - start)
    return round(min(times) * 1e3, 1)


def main() -> None:
    """Measure and print JSON."""
    torch.set_num_threads(1)
    rows = [
        {
            "length": length,
            "fused": best(scaled_dot_product_attention, length),
            "plain": best(lambda q, k, v: attend(q, k, v, mask=None, causal=False), length),
        }
        for length in (64, 128, SHORT)
    ]
    print(json.dumps({"milliseconds": rows, "environment": environment()}, indent=2))


if __name__ == "__main__":
    main()
