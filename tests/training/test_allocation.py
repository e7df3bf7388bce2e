import platform
import resource

import pytest
import torch

from fieldwright.training.allocation import freed_memory_kept

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
    monkeypatch.setattr("fieldwright.training.allocation._glibc", lambda: None)
    with freed_memory_kept() as kept:
        assert not kept
