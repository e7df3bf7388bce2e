"""Freed memory stays with the process: the same arrays again cost no pages."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys

import pytest
import torch

from fieldwright.allocator import freed_memory_kept

CHILD = """
import resource, sys
import numpy as np
from fieldwright.allocator import keep_freed_memory

def faults() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        arrays = [np.ones(3 << 17) for _ in range(4)]
        del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = keep_freed_memory()
faults()
print(int(kept), faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted as Linux does")
def test_arrays_that_are_freed_and_made_again_touch_no_new_pages():
    # Dask's own setting, under which every array of these is mapped anew.
    environment = {"MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True, check=True)
    kept, faults = map(int, done.stdout.split())
    if not kept:
        pytest.skip("the C library is not glibc")
    pages = 20 * 4 * (8 * 3 << 17) // 4096
    assert faults < pages / 100


MEGABYTES_64 = 2**24  # float32 numbers


def page_faults_of_a_large_tensor() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(MEGABYTES_64).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident_kilobytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 1024


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the memory of other C libraries is left as it is")
def test_tensors_of_the_size_of_earlier_ones_take_no_new_pages() -> None:
    with freed_memory_kept() as kept:
        assert kept
        first = [page_faults_of_a_large_tensor() for _ in range(5)]
        assert sum(first) > 8_000  # of 4 KiB, of which such a tensor has 16,384
        assert page_faults_of_a_large_tensor() < 100


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the memory of other C libraries is left as it is")
def test_unused_memory_is_handed_back_afterwards() -> None:
    before = resident_kilobytes()
    with freed_memory_kept():
        page_faults_of_a_large_tensor()
        held = resident_kilobytes()
    assert held > before + 50_000
    assert resident_kilobytes() < before + 20_000


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldwright.allocator._glibc", lambda: None)
    with freed_memory_kept() as kept:
        assert not kept
