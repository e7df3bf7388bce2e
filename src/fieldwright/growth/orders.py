"""Orders of a deeper stack of blocks: which block of the source each one comes from.

| order | of three blocks, twice |
| --- | --- |
| stack | 0 1 2 0 1 2 |
| interpolate | 0 0 1 1 2 2 |
| middle | 0 1 1 1 1 2 |
| a text such as "1-2*3-3" or a list | as it says: blocks from 1 in a text, from 0 in a list |

Source: Du et al., "Stacking Your Transformers", NeurIPS 2024, section 5 and appendix on partial stacking, whose
notation the text is.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from fieldwright.errors import InputError

Order = str | Sequence[int]
NAMED = ("stack", "interpolate", "middle")


def order_of_blocks(order: Order, count: int, factor: int | None) -> list[int]:
    """The source of each block of a stack of ``factor * count``; an explicit order says its length by itself.

    Errors: `InputError` for a factor below 2 or no whole number, an order that is unknown, that the count does not
    allow, or that names a block which is not there.
    """
    if not isinstance(order, str) or order not in NAMED:
        places = parse_order(order) if isinstance(order, str) else list(order)
        return _checked(places, count, factor)
    if isinstance(factor, bool) or not isinstance(factor, int) or factor < 2:
        raise InputError(f"growth: factor {factor}; it must be a whole number, 2 or more")
    if order == "stack":
        return list(range(count)) * factor
    if order == "interpolate":
        return [place for place in range(count) for _ in range(factor)]
    return _middle(count, factor)


def parse_order(text: str) -> list[int]:
    """The blocks, from 0, that a text such as "12-3456*5-56" or "1,2-3,4*5" names from 1.

    Errors: `InputError` for a text that is no such order.
    """
    places: list[int] = []
    for group in text.split("-"):
        found = re.fullmatch(r"(\d+|\d+(?:,\d+)+)(?:\*(\d+))?", group.strip())
        if found is None:
            raise InputError(f"growth: order '{text}'; allowed are {', '.join(NAMED)}, or blocks such as '12-34*3-56'")
        members = found[1].split(",") if "," in found[1] else list(found[1])
        places += [int(member) - 1 for member in members] * int(found[2] or 1)
    return places


def connection_rate(order: Sequence[int]) -> float:
    """Of the pairs of neighbours, the share that were neighbours in the source, in the same order."""
    pairs = list(itertools.pairwise(order))
    return sum(later == earlier + 1 for earlier, later in pairs) / len(pairs) if pairs else 1.0


def kept_places(order: Sequence[int], count: int, *, latest: bool) -> list[int] | None:
    """A place in ``order`` for each block of the source, the first or latest of each; None if they are out of order."""
    places = [_find(order, block, latest=latest) for block in range(count)]
    return places if -1 not in places and places == sorted(places) else None


def _find(order: Sequence[int], block: int, *, latest: bool) -> int:
    found = [place for place, source in enumerate(order) if source == block]
    return (found[-1] if latest else found[0]) if found else -1


def _middle(count: int, factor: int) -> list[int]:
    for edge in range(1, (count + 1) // 2):
        inner, wanted = count - 2 * edge, factor * count - 2 * edge
        if wanted % inner == 0:
            repeated = list(range(edge, count - edge)) * (wanted // inner)
            return [*range(edge), *repeated, *range(count - edge, count)]
    raise InputError(f"growth: no middle of {count} blocks can be repeated to make {factor * count}; take 'stack'")


def _checked(places: list[int], count: int, factor: int | None) -> list[int]:
    wrong = [
        place for place in places if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < count
    ]
    if wrong or not places:
        named = ", ".join(str(place) for place in wrong) or "none"
        raise InputError(
            f"growth: order with block {named}; the source has blocks 0 to {count - 1} (1 to {count} in a text)"
        )
    if len(places) <= count:
        raise InputError(f"growth: order of {len(places)} blocks; the source has {count} already")
    if factor is not None and len(places) != factor * count:
        raise InputError(f"growth: order of {len(places)} blocks; factor {factor} makes {factor * count}")
    return places
