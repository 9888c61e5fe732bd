"""What a number depends on besides recipe and data: versions, device, threads."""

from __future__ import annotations

import platform
from typing import Any

import torch

import mdmkit


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """Facts of this process as plain JSON.

    Results are bitwise repeatable only where threads, torch and the CPU's capability agree.

    Args:
        device: the device that computes; the CPU by default.
    """
    device = device or torch.device("cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "mdmkit": mdmkit.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.system(),
        "device": f"{device.type} ({name})",
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
