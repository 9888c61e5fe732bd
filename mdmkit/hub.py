"""Whether the Hugging Face hub can be asked, said at once."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_PROBE_SECONDS = 3.0


def unreachable() -> str | None:
    """Why the hub cannot be asked, or None if something answers at its address.

    The hub's own client would retry for most of a minute. This looks at the offline switches
    (``HF_HUB_OFFLINE``, ``HF_DATASETS_OFFLINE``, ``TRANSFORMERS_OFFLINE``), then opens a connection
    to the configured endpoint, or to the proxy that leads there. At most a few seconds.
    """
    from huggingface_hub import constants

    for switch in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(switch, "").upper() in {"1", "ON", "YES", "TRUE"}:
            return f"{switch} is set"
    address = urlsplit(constants.ENDPOINT)
    host = address.hostname or ""
    proxy = None if proxy_bypass(host) else getproxies().get(address.scheme)
    if proxy:
        address = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=_PROBE_SECONDS).close()
    except OSError as error:
        return f"no connection to {address.hostname}:{port} ({error.strerror or error})"
    return None
