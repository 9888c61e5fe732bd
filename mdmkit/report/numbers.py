"""Numbers with their errors, in words for people."""

from __future__ import annotations

import math

from mdmkit.values import Measurement

_LONG = 1e9
"""From here on a number's digits are no use."""


def with_error(number: Measurement) -> str:
    """``value ± stderr``, rounded to two digits of the error.

    >>> with_error(Measurement(value=3.791234, stderr=0.00831))
    '3.7912 ± 0.0083'
    >>> with_error(Measurement(value=44.3, stderr=12.0))
    '44 ± 12'
    >>> with_error(Measurement(value=2.0, stderr=0.0))
    '2.0000 ± 0'
    >>> with_error(Measurement(value=2e30, stderr=1e28))
    '2e+30 ± 1e+28'
    """
    if max(abs(number.value), number.stderr) >= _LONG:
        return f"{number.value:.4g} ± {number.stderr:.2g}"
    if number.stderr < 1e-6:
        return f"{number.value:.4f} ± {number.stderr:.0g}"
    digits = max(1 - math.floor(math.log10(number.stderr)), 0)
    return f"{number.value:.{digits}f} ± {number.stderr:.{digits}f}"


def decimal(value: float) -> str:
    """Four decimals, of a number that has no error.

    >>> decimal(2.5), decimal(-2e30)
    ('2.5000', '-2e+30')
    """
    return f"{value:.4f}" if abs(value) < _LONG else f"{value:.4g}"


def rate(per_second: float) -> str:
    """A speed in few characters.

    >>> rate(812.4), rate(24_310.0), rate(3_200_000.0)
    ('812', '24.3k', '3.2M')
    """
    if per_second >= 1e3 * _LONG:
        return f"{per_second:.2g}"
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if per_second >= size:
            return f"{per_second / size:.1f}{unit}"
    return f"{per_second:.0f}"


def duration(seconds: float) -> str:
    """A time span.

    >>> duration(7.4), duration(83), duration(7384)
    ('7s', '1m23s', '2h03m')
    >>> duration(3 * 86400 + 5 * 3600)
    '3d05h'
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole >= _LONG:
        return f"{whole / 86400:.2g}d"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def size(octets: int) -> str:
    """An amount of bytes.

    >>> size(812), size(24_310), size(3_200_000_000)
    ('812 B', '24.3 kB', '3.2 GB')
    """
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if octets >= unit:
            return f"{octets / unit:.1f} {name}"
    return f"{octets} B"
