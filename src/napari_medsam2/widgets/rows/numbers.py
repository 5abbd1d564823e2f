"""Numbers as a narrow column shows them."""

from __future__ import annotations

__all__ = ["format_bytes", "format_size", "short_unit"]

_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_UNITS = {"um": "µm", "micron": "µm", "micrometer": "µm", "angstrom": "Å", "pixel": "px"}


def format_size(value: float, whole: bool = False) -> str:
    """Write an area or a volume with three significant figures, without its unit.

    Parameters
    ----------
    value : float
        In whatever unit.
    whole : bool
        Whether it counts pixels or voxels: large numbers then have a letter instead of a power of ten.

    Examples
    --------
    >>> format_size(1234.0), format_size(2.5e7), format_size(123456, whole=True)
    ('1230', '2.50×10⁷', '123k')
    """
    if whole:
        return _counted(value)
    if value == 0:
        return "0"
    exponent = len(f"{value:.0f}") - 1 if value >= 1 else int(f"{value:.2e}".partition("e")[2])
    if -2 <= exponent < 5:
        return _significant(value)
    head, _, tail = f"{value:.2e}".partition("e")
    return f"{head}×10{str(int(tail)).translate(_SUPERSCRIPTS)}"


def short_unit(unit: str, power: int) -> str:
    """Return the sign of a unit to a power.

    Examples
    --------
    >>> short_unit("um", 3), short_unit("pixel", 3), short_unit("pixel", 2)
    ('µm³', 'voxels', 'pixels')
    """
    short = _UNITS.get(unit.lower(), unit)
    if short == "px":
        return "voxels" if power == 3 else "pixels"
    return short + str(power).translate(_SUPERSCRIPTS)


def format_bytes(count: float) -> str:
    """Write a number of bytes in decimal units, as download pages do.

    Examples
    --------
    >>> format_bytes(17_400_000), format_bytes(2_100_000_000)
    ('17.4 MB', '2.10 GB')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{_significant(count / size)} {unit}"
    return f"{count:.0f} B"


def _counted(value: float) -> str:
    for mark, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 10 * size or (mark != "k" and value >= size):
            return f"{_significant(value / size)}{mark}"
    # A mean over time points need not be whole.
    return f"{value:.0f}"


def _significant(value: float) -> str:
    """Write three significant figures, without an exponent."""
    rounded = float(f"{value:.3g}")
    if rounded >= 100:
        return f"{rounded:.0f}"
    if rounded >= 10:
        return f"{rounded:.1f}"
    return f"{rounded:.2f}" if rounded >= 1 else f"{rounded:.3g}"
