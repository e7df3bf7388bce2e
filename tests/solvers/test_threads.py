"""Blocks side by side: their order, one thread for each, and every setting afterwards as it was."""

import re

import numpy as np
import pytest
import scipy.linalg  # noqa: F401  its BLAS is a library of its own
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from fieldwright.solvers.threads import on_threads, one_blas_thread, one_torch_thread


def blas_threads() -> set[int]:
    """Of NumPy's and SciPy's; what other packages of this environment bring is no matter of ours."""
    np.ones((2, 2)) @ np.ones((2, 2))
    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return {
        library["num_threads"] for library in found if {"numpy", "scipy"} & set(re.split(r"\W", library["filepath"]))
    }


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpool_limits(2, user_api="blas"):
        yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_results_come_in_the_order_of_the_places_each_from_one_thread(count):
    found = on_threads(lambda place: (place, torch.get_num_threads(), blas_threads()), range(count))
    assert found == [(place, 1, {1}) for place in range(count)]
    assert torch.get_num_threads() == 2
    assert blas_threads() == {2}


def test_settings_are_restored_after_an_error():
    def fail(place):
        raise ArithmeticError(f"block {place}")

    with pytest.raises(ArithmeticError, match="block 0"):
        on_threads(fail, [0, 1])
    assert (torch.get_num_threads(), blas_threads()) == (2, {2})


def test_contexts_may_be_nested():
    with one_torch_thread():
        with one_blas_thread():
            assert (torch.get_num_threads(), blas_threads()) == (1, {1})
        assert (torch.get_num_threads(), blas_threads()) == (1, {1})
    assert (torch.get_num_threads(), blas_threads()) == (2, {2})
