from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Everything here is small: threads would only get in each other's way."""
    torch.set_num_threads(1)
