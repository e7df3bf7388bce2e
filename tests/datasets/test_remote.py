"""A dataset at an address gives the bits of the one on the disk, block by block, and one sentence for any trouble."""

from __future__ import annotations

import multiprocessing
import pickle
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
import torch

from fieldwright.datasets import FieldDataset, ShardContent
from fieldwright.datasets.layout import survey
from fieldwright.datasets.remote import RemoteFile, is_address, remote_file
from fieldwright.errors import DataError


@pytest.fixture
def memory(dataset: Path) -> Iterator[fsspec.AbstractFileSystem]:
    """The dataset in a file system that only this process sees."""
    system = fsspec.filesystem("memory")
    for file in dataset.rglob("*"):
        if file.is_file():
            system.pipe(f"/set/{file.relative_to(dataset)}", file.read_bytes())
    yield system
    system.rm("/set", recursive=True)


class Ranges(SimpleHTTPRequestHandler):
    """A directory over HTTP, in parts where the request asks for them; ``sent`` counts the bytes of files."""

    sent = 0
    parts = True

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not (path.is_file() and wanted and self.parts):
            super().do_GET()
            return
        whole = path.read_bytes()
        part = whole[int(wanted[1]) : int(wanted[2]) + 1]
        type(self).sent += len(part)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {wanted[1]}-{int(wanted[1]) + len(part) - 1}/{len(whole)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def end_headers(self) -> None:
        self.send_header("Accept-Ranges", "bytes" if self.parts else "none")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(dataset: Path) -> Iterator[str]:
    """The address of the dataset on a server of this machine."""
    pytest.importorskip("aiohttp", reason="fsspec reads http:// through aiohttp")
    Ranges.sent, Ranges.parts = 0, True
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(dataset)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_dataset_at_an_address_is_the_one_on_the_disk(memory, dataset: Path):
    near, far = FieldDataset(dataset, "train"), FieldDataset("memory://set", "train")
    for ours, theirs in zip(near.arrays(), far.arrays(), strict=True):
        assert torch.equal(ours, theirs)
    assert (far.name, far.grid, far.units, far.input_names) == (near.name, near.grid, near.units, near.input_names)
    assert torch.equal(far.batch([7, -1, 0])[1], near.batch([7, -1, 0])[1])
    copy = pickle.loads(pickle.dumps(far))
    assert torch.equal(copy.batch([3])[0], near.batch([3])[0])


def test_time_dependent_dataset_at_an_address_gives_the_same_windows(moving: tuple[Path, ShardContent]):
    root, _ = moving
    system = fsspec.filesystem("memory")
    file = next(root.rglob("*.hdf5"))
    system.pipe(f"/moving/{file.relative_to(root)}", file.read_bytes())
    near, far = FieldDataset(root, "train"), FieldDataset("memory://moving/", "train")
    assert torch.equal(far.batch([5, 0, 11])[0], near.batch([5, 0, 11])[0])
    assert torch.equal(far.batch([5, 0, 11])[1], near.batch([5, 0, 11])[1])


def test_dataset_over_http_is_read_also_by_forked_processes(served: str, dataset: Path):
    near, far = FieldDataset(dataset, "train"), FieldDataset(served, "train")
    assert torch.equal(far.arrays()[1], near.arrays()[1])
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for found in pool.map(far.outputs.__getitem__, [[1, 9]] * 2):
            assert torch.equal(torch.from_numpy(found), near.batch([1, 9])[1])


def test_blocks_once_read_are_not_asked_for_again(served: str, dataset: Path):
    far = FieldDataset(served, "train")
    far.arrays()
    size = sum(file.stat().st_size for file in dataset.glob("data/train/*.hdf5"))
    assert Ranges.sent == size
    far.arrays()
    assert Ranges.sent == size


def test_server_that_sends_no_parts_is_named(served: str):
    Ranges.parts = False
    with pytest.raises(DataError, match="sends whole files only, not parts; download it first"):
        FieldDataset(served, "train")


@pytest.mark.parametrize(
    ("address", "split", "words"),
    [
        ("memory://set", "tset", "has no split 'tset'; it has train, valid, test"),
        ("memory://nowhere", "train", "has no split 'train'; it has none"),
        ("nowhere://set", "train", "no way to nowhere:// is known"),
        ("http://127.0.0.1:9/set", "train", "has no split 'train'"),
    ],
)
def test_address_that_leads_nowhere_is_one_sentence(memory, address: str, split: str, words: str):
    with pytest.raises(DataError) as caught:
        FieldDataset(address, split)
    assert words in str(caught.value) or "cannot be reached" in str(caught.value)
    assert address in str(caught.value)
    assert "\n" not in str(caught.value)


def test_package_that_an_address_needs_is_named(monkeypatch: pytest.MonkeyPatch):
    def missing(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(
        DataError, match=r"s3://bucket/set.*: reading from s3:// needs another package: pip install s3fs"
    ):
        FieldDataset("s3://bucket/set")


def test_damage_at_an_address_is_found_in_a_child_process(memory):
    whole = memory.cat("/set/data/train/halving_00000.hdf5")
    flipped = bytearray(whole)
    flipped[40:80] = bytes(range(40))
    for content, words in (
        (b"", "is empty"),
        (b"x" * 5000, "is not an HDF5 file"),
        (whole[:6000], "is damaged or incomplete"),
        (bytes(flipped), "is damaged"),
    ):
        memory.pipe("/set/data/train/halving_00001.hdf5", content)
        with pytest.raises(DataError, match=words) as caught:
            FieldDataset("memory://set", "train")
        assert "memory://set/data/train/halving_00001.hdf5" in str(caught.value)


def test_file_that_shrinks_while_it_is_looked_at_is_cut_short(memory):
    file = remote_file("memory://set/data/train/halving_00000.hdf5")
    memory.pipe("/set/data/train/halving_00000.hdf5", b"\x89HDF\r\n\x1a\n")
    with pytest.raises(DataError, match="is cut short"):
        survey([RemoteFile(file.address, file.size)])


def test_what_is_an_address():
    assert is_address("hf://datasets/a/b")
    assert is_address("s3+x://bucket")
    assert not any(map(is_address, ("data/set", "/data/set", "C:\\data", "a b://c", Path("hf://datasets/a"))))
    with pytest.raises(DataError, match="is not there"):
        remote_file("memory://set/nothing")
    named = RemoteFile("https://there/a/b.set.hdf5?download=true", 7)
    assert (named.name, named.stem, named.suffix) == ("b.set.hdf5", "b.set", ".hdf5")
