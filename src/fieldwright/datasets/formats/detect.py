"""Find out what a path, a pattern or an address holds, by its content."""

from __future__ import annotations

import glob
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldwright.datasets.formats.hdf5 import Hdf5File, open_hdf5
from fieldwright.datasets.formats.poseidon import set_of_name
from fieldwright.datasets.formats.source import SPLITS, Place
from fieldwright.datasets.read import split_files, split_files_afar
from fieldwright.datasets.remote import is_address, remote_exists, remote_file, remote_files
from fieldwright.errors import DataError, InputError
from fieldwright.settings import allowed

READABLE = (
    "well",
    "pdebench",
    "matlab",
    "numpy",
    "deepxde",
    "poseidon",
    "neuralop",
    "physicsnemo",
    "hdf5",
    "zarr",
    "netcdf",
)
_HDF5_ENDINGS = (".hdf5", ".h5", ".nc", ".nc4", ".mat")
_FILE_ENDINGS = (*_HDF5_ENDINGS, ".npy", ".npz", ".pt")
_SPLIT_WORDS = {
    "train": r"(^|[_.-])train(ing)?([_.-]|$)|smooth1$",
    "valid": r"(^|[_.-])(valid(ation)?|val)([_.-]|$)",
    "test": r"(^|[_.-])test(ing)?([_.-]|$)|smooth2$",
}


@dataclass(frozen=True)
class Found:
    """A format with its files, and which of them belong to which split where their names or folders say so."""

    format: str
    places: tuple[Place, ...]
    splits: Mapping[str, tuple[Place, ...]]


def recognise(source: str, stated: str = "", opened: dict[Any, Any] | None = None) -> Found:
    """What is at a path, a pattern of paths or an address. A ``stated`` format is taken at its word.

    HDF5 files that are looked through on the way are put among the ``opened``.

    Errors: `DataError` when nothing is there, or nothing that is known; `InputError` for an unknown format.
    """
    if stated and stated not in READABLE:
        raise InputError(f"--from: '{stated}'; {allowed(stated, READABLE)}")
    if is_address(source):
        return _afar(source, stated, opened)
    path = Path(source)
    if path.is_dir():
        return _directory(path, stated, opened)
    if path.exists():
        return Found(stated or format_of(path, opened), (path,), {})
    matched = [Path(name) for name in sorted(glob.glob(source))]
    if not matched:
        raise DataError(f"{source}: is not there")
    return _several(matched, stated, opened)


def _directory(path: Path, stated: str, opened: dict[Any, Any] | None) -> Found:
    if stated == "well" or (not stated and (path / "data").is_dir()):
        present = {split: tuple(split_files(path, split)) for split in SPLITS if (path / "data" / split).is_dir()}
        if not present:
            raise DataError(f"{path}: has no data/train, data/valid or data/test")
        return Found("well", tuple(file for files in present.values() for file in files), present)
    if any((path / mark).exists() for mark in ("zarr.json", ".zgroup", ".zarray", ".zmetadata")):
        return Found(stated or "zarr", (path,), {})
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in _FILE_ENDINGS or p.suffix == ".zarr")
    endings = {p.suffix.lower() for p in files}
    if not files:
        raise DataError(f"{path}: holds no file of a known kind ({', '.join((*_FILE_ENDINGS, '.zarr'))})")
    if len(endings) > 1:
        kinds = ", ".join(sorted(endings))
        raise DataError(f"{path}: holds files of several kinds ({kinds}); name one, as in '{path}/*{files[0].suffix}'")
    return _several(files, stated, opened)


def _several(files: list[Path], stated: str, opened: dict[Any, Any] | None) -> Found:
    kind = stated or ("zarr" if files[0].is_dir() else format_of(files[0], opened))
    by_split: dict[str, tuple[Place, ...]] = {}
    for file in files:
        split = split_of_name(file.stem)
        if split:
            by_split[split] = (*by_split.get(split, ()), file)
    whole = sum(map(len, by_split.values())) == len(files)
    return Found(kind, tuple(files), by_split if whole else {})


def _afar(address: str, stated: str, opened: dict[Any, Any] | None) -> Found:
    root = address.rstrip("/")
    if stated in ("", "well"):
        present = [split for split in SPLITS if remote_exists(f"{root}/data/{split}")]
        if present:
            files = {split: tuple(split_files_afar(root, split)) for split in present}
            return Found("well", tuple(f for some in files.values() for f in some), files)
    if stated == "zarr" or any(remote_exists(f"{root}/{mark}") for mark in ("zarr.json", ".zgroup", ".zarray")):
        return Found("zarr", (address,), {})  # type: ignore[arg-type]
    inside = remote_files(root, _HDF5_ENDINGS)
    places: tuple[Place, ...] = tuple(inside) or (remote_file(address),)
    kind = stated or _flavour(open_hdf5(places[0], opened))
    if kind not in ("well", "pdebench", "poseidon", "physicsnemo", "hdf5", "netcdf"):
        raise DataError(f"{address}: files of the format {kind} are not read from an address; download it first")
    return Found(kind, places, {})


def split_of_name(stem: str) -> str:
    """The split that a file's name tells; empty where it tells none."""
    return next((split for split, words in _SPLIT_WORDS.items() if re.search(words, stem.lower())), "")


def format_of(path: Path, opened: dict[Any, Any] | None = None) -> str:
    """The format of one file, by its content.

    Errors: `DataError` for a file that is empty, damaged or of no known kind.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(520)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if head.startswith(b"\x93NUMPY"):
        return "numpy"
    if head.startswith(b"MATLAB") or (path.suffix.lower() == ".mat" and not head.startswith(b"\x89HDF")):
        return "matlab"
    if head.startswith(b"CDF"):
        return "netcdf"
    if head.startswith(b"PK"):
        return _flavour_of_archive(path)
    if b"\x89HDF\r\n\x1a\n" in (head[:8], head[512:520]):
        return _flavour(open_hdf5(path, opened))
    if path.suffix == ".pt":
        return "neuralop"
    raise DataError(f"{path}: {'is empty' if not head else 'is of no known kind'}")


def _flavour_of_archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: is damaged ({error})") from error
    if any(name.endswith("data.pkl") for name in names):
        return "neuralop"
    return "deepxde" if {"X0.npy", "X1.npy", "y.npy"} <= set(names) else "numpy"


def _flavour(file: Hdf5File) -> str:
    """Whose layout an HDF5 file has."""
    names, root = file.arrays, file.handle
    if "n_trajectories" in root.attrs or "t0_fields" in root:
        return "well"
    if any(re.fullmatch(r"[xyzt]-coordinate", name) for name in names):
        return "pdebench"
    if any(name.endswith("/data") for name in names) and any(name.endswith("/grid/x") for name in names):
        return "pdebench"
    if {"velocity", "t"} <= names.keys() and ("particles" in names or "latestIndex" in root.attrs):
        return "pdebench"
    if set_of_name(file.place.stem) or "Sample_0/u" in names or _is_ours(file, "sample"):
        return "poseidon"
    scales = any(root[name].attrs.get("CLASS", b"") == b"DIMENSION_SCALE" for name in list(names)[:50])
    return "netcdf" if scales or "_NCProperties" in root.attrs else "hdf5"


def _is_ours(file: Hdf5File, *names: str) -> bool:
    return bool(file.text("/", "fieldwright")) and any(name in file.arrays for name in names)
