import numpy as np
import pytest

from fieldwright.solvers.lane_transforms import (
    from_scattered,
    load_imaginary,
    load_real,
    store_complex,
    to_scattered,
    turn_tile,
    twiddle_table,
)
from fieldwright.solvers.lanes import LANES, aligned, compiled


@compiled
def scatter(line, n, real, table):
    to_scattered(line, 0, n, real, table)


@compiled
def gather(line, n, real, table):
    from_scattered(line, 0, n, real, table)


@compiled
def turn(source, target):
    turn_tile(source, 1, 2, target, 3, 1)


@compiled
def copy_complex(source, target):
    store_complex(target, 1, load_real(source, 3), load_imaginary(source, 3))


def lines(n: int, dtype=np.float64) -> tuple[np.ndarray, np.ndarray]:
    """Eight lines of n random complex numbers, as they are and as pairs of vectors."""
    random = np.random.default_rng(0)
    values = random.standard_normal((n, LANES)) + 1j * random.standard_normal((n, LANES))
    packed = aligned(2 * n, dtype)
    packed[:] = np.stack([values.real, values.imag], 1).ravel()
    return values, packed


def unpacked(packed: np.ndarray, n: int) -> np.ndarray:
    parts = packed.reshape(n, 2, LANES)
    return parts[:, 0] + 1j * parts[:, 1]


def reversed_digits(n: int) -> np.ndarray:
    """Where each wave stands after `to_scattered`: radix-4 digits reversed, a factor 2 last."""
    places = np.zeros(1, dtype=int)
    factors = []
    size = n
    while size > 1:
        factors.append(4 if size >= 4 else 2)
        size //= factors[-1]
    step = 1
    for factor in factors:
        places = (places[:, None] + step * np.arange(factor)).ravel()
        step *= factor
    return places


@pytest.mark.parametrize("n", [4, 8, 16, 32, 64, 128, 256, 512])
@pytest.mark.parametrize("real", [0, 1])
def test_lines_are_transformed_and_scattered_and_back(n: int, real: int) -> None:
    values, packed = lines(n)
    table = twiddle_table(n, np.float64)
    scatter(packed, n, real, table)
    phase = np.exp((-2j if real == 0 else 2j) * np.pi * np.outer(np.arange(n), np.arange(n)) / n)
    np.testing.assert_allclose(unpacked(packed, n), (phase @ values)[reversed_digits(n)], rtol=0, atol=1e-12 * n)
    gather(packed, n, 1 - real, table)
    np.testing.assert_allclose(unpacked(packed, n), n * values, rtol=0, atol=1e-13 * n)


def test_single_precision_is_accurate_to_its_digits() -> None:
    values, packed = lines(64, np.float32)
    scatter(packed, 64, 0, twiddle_table(64, np.float32))
    assert packed.dtype == np.float32
    exact = np.fft.fft(values, axis=0)[reversed_digits(64)]
    assert np.abs(unpacked(packed, 64) - exact).max() < 1e-6 * np.abs(exact).max()


def test_tiles_are_transposed() -> None:
    source, target = aligned(20, np.float64), aligned(20, np.float64)
    source[:] = np.arange(len(source))
    turn(source, target)
    tile = source.reshape(20, LANES)[1 : 1 + 2 * LANES : 2]
    np.testing.assert_array_equal(target.reshape(20, LANES)[3 : 3 + LANES], tile.T)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_complex_numbers_come_apart_and_together_at_any_position(dtype) -> None:
    source, target = np.arange(32, dtype=dtype), np.zeros(32, dtype=dtype)
    copy_complex(source, target)
    np.testing.assert_array_equal(target[1 : 1 + 2 * LANES], source[3 : 3 + 2 * LANES])
    assert target[0] == 0
    assert not target[1 + 2 * LANES :].any()
