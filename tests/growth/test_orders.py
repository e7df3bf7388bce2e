"""Orders of blocks: the published plans and their connection rates, and what cannot be an order."""

import pytest

from fieldwright.errors import InputError
from fieldwright.growth import connection_rate, order_of_blocks, parse_order
from fieldwright.growth.orders import kept_places


@pytest.mark.parametrize(
    ("text", "connected"),
    [
        ("123456*4", 20), ("12-3456*5-56", 18), ("12-345*7-6", 17), ("123-456*7", 17),
        ("1234-56*10", 14), ("12-34*10-56", 14), ("1-234*7-56", 17), ("123*7-456", 17),
    ],
)  # fmt: skip
def test_published_plans_have_the_published_connection_rates(text, connected):
    order = parse_order(text)
    assert len(order) == 24
    assert connection_rate(order) == connected / 23


def test_named_orders_repeat_every_block_as_often():
    assert order_of_blocks("stack", 3, 2) == [0, 1, 2, 0, 1, 2]
    assert order_of_blocks("interpolate", 3, 2) == [0, 0, 1, 1, 2, 2]
    assert order_of_blocks("middle", 6, 4) == parse_order("12-34*10-56")
    assert connection_rate(order_of_blocks("interpolate", 3, 2)) == 2 / 5
    assert parse_order("1,2-3,10*2") == [0, 1, 2, 9, 2, 9]


def test_kept_blocks_are_in_their_order_or_there_are_none():
    assert kept_places([0, 1, 0, 1], 2, latest=False) == [0, 1]
    assert kept_places([0, 1, 0, 1], 2, latest=True) == [2, 3]
    assert kept_places([1, 0, 1, 0], 2, latest=False) is None
    assert kept_places([0, 0, 0], 2, latest=False) is None


@pytest.mark.parametrize(
    ("order", "count", "factor", "word"),
    [
        ("stack", 2, 1, "2 or more"), ("stack", 2, 2.5, "whole number"), ("stack", 2, None, "whole number"),
        ("zigzag", 2, 2, "stack, interpolate"), ("12-9*3", 2, None, "blocks 0 to 1"), ([0, 5, 1], 2, None, "block 5"),
        ([0, 1], 2, None, "already"), ([0, 1, 1], 2, 2, "makes 4"), ("middle", 2, 2, "stack"),
    ],
)  # fmt: skip
def test_what_is_no_order_is_refused_with_what_is_allowed(order, count, factor, word):
    with pytest.raises(InputError, match=word):
        order_of_blocks(order, count, factor)
