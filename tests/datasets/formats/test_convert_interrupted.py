"""A conversion that is stopped or killed leaves nothing half and goes on when it is given again; memory is bounded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from our_datasets import assert_same_dataset

from fieldwright.atomic import checksum
from fieldwright.datasets import FieldDataset
from fieldwright.datasets.formats import convert, native
from fieldwright.errors import DataError


def test_conversion_goes_on_where_it_was_stopped(make, monkeypatch):
    ours = make("flow")
    whole, parts = ours.parent / "whole", ours.parent / "parts"
    convert(ours, whole, shard_bytes=6000)
    written: list[Path] = []

    def write(path: Path, content: object) -> str:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path)
        return real(path, content)

    real = native.write_shard
    monkeypatch.setattr(native, "write_shard", write)
    with pytest.raises(KeyboardInterrupt):
        convert(ours, parts, shard_bytes=6000)
    with pytest.raises(DataError, match="is missing"):
        FieldDataset(parts, "test")
    stamps = {file: file.stat().st_mtime_ns for file in written}
    monkeypatch.setattr(native, "write_shard", real)
    # One of the finished ones is damaged meanwhile: it is made again, the others are not.
    damaged = bytearray(written[1].read_bytes())
    damaged[-9] ^= 1
    written[1].write_bytes(damaged)
    convert(ours, parts, shard_bytes=6000)
    assert_same_dataset(whole, parts)
    assert all(file.stat().st_mtime_ns == stamps[file] for file in (written[0], written[2]))
    for file in whole.glob("data/*/*.hdf5"):
        assert checksum(file) == checksum(parts / file.relative_to(whole))
    assert not list(ours.parent.glob(".*conversion"))


def test_other_settings_or_another_source_for_the_same_directory_are_refused(make):
    ours = make("steady")
    target = ours.parent / "target"
    convert(ours, target, limit=2)
    with pytest.raises(DataError, match=r"holds a dataset with .*limit"):
        convert(ours, target, limit=1)
    with pytest.raises(DataError, match="holds a dataset that was not converted"):
        convert(ours, make("flow"))
    file = ours / "data/train/a_0.hdf5"
    os.utime(file, (0, 5))
    os.utime(ours / "data/valid/a_0.hdf5", (0, 0))
    os.utime(ours / "data/test/a_0.hdf5", (0, 0))
    with pytest.raises(DataError, match=r"holds a dataset with settings\.source\.changed"):
        convert(ours, target, limit=2)


CONVERT = """
import sys
from fieldwright.datasets.formats import convert
convert(sys.argv[1], sys.argv[2], format=sys.argv[3], roles=["u=output:ntxy"], shard_bytes=2**17)
"""


@pytest.mark.parametrize(("format", "name"), [("well", "target"), ("pdebench", "target.hdf5")])
def test_killed_conversion_leaves_nothing_half_and_can_be_given_again(tmp_path: Path, format: str, name: str):
    values = np.random.default_rng(0).standard_normal((300, 3, 32, 32)).astype(np.float32)
    np.save(tmp_path / "u.npy", values)
    source, target = tmp_path / "u.npy", tmp_path / name
    child = subprocess.Popen([sys.executable, "-c", CONVERT, str(source), str(target), format])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (list(tmp_path.rglob("*.hdf5*"))):
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()
    for file in tmp_path.rglob("*.hdf5"):
        with h5py.File(file) as whole:
            whole.visititems(lambda _, item: item[()] if isinstance(item, h5py.Dataset) else None)
    convert(source, target, format=format, roles=["u=output:ntxy"], shard_bytes=2**17)
    assert not list(tmp_path.rglob("*.partial"))
    assert not list(tmp_path.glob(".*conversion"))
    back = target if format == "well" else tmp_path / "back"
    if format != "well":
        convert(target, back)
    windows = FieldDataset(back, "train").arrays()
    np.testing.assert_array_equal(windows[0].numpy()[:, 0], values[:, :-1].reshape(-1, 32, 32))
    np.testing.assert_array_equal(windows[1].numpy()[:, 0], values[:, 1:].reshape(-1, 32, 32))


LIMITED = """
import re, resource, sys
from fieldwright.datasets.formats import convert
room, *sets = sys.argv[1:]
for source, roles, format in zip(sets[0::3], sets[1::3], sets[2::3]):
    said = dict(format=format, roles=[word for word in roles.split(",") if word], shard_bytes=2**19)
    if source == sets[0]:  # what is loaded at the first use of anything is not the set's
        convert(source, f"{source}.first", limit=1, **said)
    held = int(re.search(r"VmData:\\s*(\\d+)", open("/proc/self/status").read())[1]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (held + int(room), -1))
    try:
        bytearray(24 << 20)
        sys.exit("the limit does not hold")
    except MemoryError:
        pass
    try:
        convert(source, f"{source}.{format}", **said)
    except MemoryError:
        sys.exit(f"{source} to {format} takes more than {room} bytes")
    resource.setrlimit(resource.RLIMIT_DATA, (-1, -1))
"""


def large_sets(directory: Path) -> Iterator[tuple[Path, str, str]]:
    """Sets of 24 MiB, (512, 3, 64, 64) in single precision: where they lie, what to say of them, what to make."""
    values = np.random.default_rng(0).integers(0, 9, (512, 3, 64, 64)).astype(np.float32)
    np.savez_compressed(directory / "compressed.npz", u=values)
    yield directory / "compressed.npz", "u=output:ntxy", "well"
    np.save(directory / "columns.npy", np.asfortranarray(values))
    yield directory / "columns.npy", "columns=output:ntxy", "well"
    with h5py.File(directory / "1D_Burgers.hdf5", "w") as file:
        file["tensor"] = values.reshape(512, 3, 4096)
        file["x-coordinate"] = (np.arange(4096, dtype=np.float32) + 0.5) / 4096
        file["t-coordinate"] = np.arange(4, dtype=np.float32)
    for format in ("well", "matlab-v5", "matlab-v7.3", "numpy", "deepxde", "poseidon", "neuralop", "physicsnemo"):
        yield directory / "1D_Burgers.hdf5", "", format
    with h5py.File(directory / "ns.mat", "w", userblock_size=512) as file:
        turned = np.ascontiguousarray(np.moveaxis(values, 1, -1).T)
        file.create_dataset("u", data=turned, chunks=(1, 16, 16, 512)).attrs["MATLAB_class"] = np.bytes_("single")
    with open(directory / "ns.mat", "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM")
    yield directory / "ns.mat", "u=output:nxyt", "well"


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on the memory of a process's own is Linux's")
def test_memory_is_that_of_a_shard_whatever_the_size_of_the_set(tmp_path: Path):
    sets = [str(word) for entry in large_sets(tmp_path) for word in entry]
    command = [sys.executable, "-c", LIMITED, str(10 << 20), *sets]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
    for name in ("compressed.npz", "columns.npy", "ns.mat"):
        assert len(FieldDataset(tmp_path / f"{name}.well", "train", verify=False)) == 512 * 2
