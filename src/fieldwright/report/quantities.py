"""Numbers as people read them. A number never breaks from its unit."""

from __future__ import annotations

import math

SPACE = "\N{NO-BREAK SPACE}"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float, digits: int = 2) -> str:
    """Significant digits, as a plain decimal between 0.001 and 100,000 and as a power of ten elsewhere."""
    if value == 0 or not math.isfinite(value):
        return {0: "0", math.inf: "∞", -math.inf: "−∞"}.get(value, "not a number")
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = math.floor(math.log10(abs(rounded)))
    if -3 <= exponent < 5:
        return f"{rounded:,.{max(0, digits - 1 - exponent)}f}".replace("-", "−")
    mantissa = f"{rounded / 10.0**exponent:.{digits - 1}f}".replace("-", "−")
    return f"{mantissa}{SPACE}×{SPACE}{power_of_ten(exponent)}"


def power_of_ten(exponent: int) -> str:
    """-3 -> "10⁻³"."""
    return f"10{str(exponent).translate(_SUPERSCRIPTS)}"


def percent(share: float, digits: int = 2) -> str:
    """0.0142 -> "1.4 %"; below 0.001 % the bare number."""
    if 0 < abs(share) < 1e-5:
        return number(share, digits)
    return f"{number(100 * share, digits)}{SPACE}%"


def duration(seconds: float) -> str:
    """Two or three digits in the unit that fits: "52 µs", "0.31 ms", "4.2 s", "4 min 12 s", "1 h 3 min"."""
    if seconds <= 0:
        return f"0{SPACE}s"
    if seconds < 1e-4:
        return f"{number(seconds * 1e6)}{SPACE}µs"
    if seconds < 0.1:
        return f"{number(seconds * 1e3)}{SPACE}ms"
    if seconds < 60:
        return f"{number(seconds)}{SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{SPACE}min{SPACE}{rest}{SPACE}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,}{SPACE}h{SPACE}{minutes}{SPACE}min"


def count(value: int) -> str:
    """Whole numbers to three digits, with separators: 1,234,567 -> "1,230,000"; up to 9,999 exactly."""
    if value < 10_000:
        return f"{value:,}"
    return f"{int(float(f'{value:.2e}')):,}"


def shape(sizes: tuple[int, ...]) -> str:
    """(64, 64) -> "64 × 64"."""
    return f"{SPACE}×{SPACE}".join(map(str, sizes))


def plural(value: int, noun: str) -> str:
    """ "1 sample", "2 samples"."""
    return f"{value:,}{SPACE}{noun}" + ("" if value == 1 else "s")
