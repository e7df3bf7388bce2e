"""Numbers as people read them."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.report.quantities import count, duration, number, percent, plural, power_of_ten, shape


def plain(text):
    return text.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1.0"),
        (0.0142, "0.014"),
        (0.00996, "0.010"),
        (12.34, "12"),
        (1234.0, "1,200"),
        (99_999.0, "1.0 × 10⁵"),
        (-0.25, "−0.25"),
        (3.14e-7, "3.1 × 10⁻⁷"),
        (-2.5e12, "−2.5 × 10¹²"),
        (math.inf, "∞"),
        (math.nan, "not a number"),
    ],
)
def test_numbers(value, text):
    assert plain(number(value)) == text


@settings(deadline=None, max_examples=200)
@given(st.floats(1e-12, 1e12))
def test_two_digits_are_right_to_five_percent_and_never_padded_with_false_ones(value):
    text = plain(number(value)).replace(",", "")
    mantissa, _, exponent = text.partition(" × 10")
    table = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    read = float(mantissa) * 10.0 ** (int(exponent.translate(table)) if exponent else 0)
    assert read == pytest.approx(value, rel=0.0501)


@pytest.mark.parametrize(
    ("share", "text"), [(0.0142, "1.4 %"), (0.5, "50 %"), (3.1e-5, "0.0031 %"), (2e-7, "2.0 × 10⁻⁷"), (0.0, "0 %")]
)
def test_percentages(share, text):
    assert plain(percent(share)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (5.2e-5, "52 µs"),
        (3.1e-4, "0.31 ms"),
        (0.0999, "100 ms"),
        (0.5, "0.50 s"),
        (59.4, "59 s"),
        (59.9, "60 s"),
        (252.0, "4 min 12 s"),
        (3599.6, "1 h 0 min"),
        (3_780.0, "1 h 3 min"),
    ],
)
def test_durations(seconds, text):
    assert plain(duration(seconds)) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (370, "370"), (9_999, "9,999"), (1_234_567, "1,230,000")])
def test_counts(value, text):
    assert count(value) == text


def test_numbers_do_not_break_from_their_units():
    texts = (percent(0.1), duration(1.0), duration(4000.0), shape((2, 3)), plural(2, "x"))
    assert all(" " not in text for text in texts)


def test_shapes_plurals_and_powers():
    assert plain(shape((64, 32, 16))) == "64 × 32 × 16"
    assert plain(plural(1, "sample")) == "1 sample"
    assert plain(plural(2000, "sample")) == "2,000 samples"
    assert power_of_ten(-12) == "10⁻¹²"
