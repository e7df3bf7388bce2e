"""Plain arrays in the files that people have: ``.npy``, ``.npz``, HDF5, and MATLAB's ``.mat`` of both kinds.

Files are recognised by their content. A ``.mat`` file of version 5 (also 4 and 7) is read by SciPy; one of version 7.3
is HDF5 whose arrays have their axes reversed, because MATLAB's first index runs fastest; they come back in MATLAB's
order. Nothing is ever unpickled.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
import scipy.io.matlab

from fieldwright.atomic import write_atomically
from fieldwright.datasets.layout import look
from fieldwright.errors import DataError, InputError

_V5_LIMIT_BYTES = 2**31 - 2**16
_MATLAB_INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_MATLAB_NUMBERS = ("double", "single", "logical", *_MATLAB_INTEGERS)
_V73_HEADER = b"MATLAB 7.3 MAT-file, Platform: any, Created by: Fieldwright HDF5 schema 1.00 ."


def read_fields(path: str | Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The numeric arrays of a file by name, in this machine's byte order; float32 and float64 keep their precision,
    integers and truth values become float64. A ``.npy`` file's one array has the file's name without its ending.

    ``names`` picks some; None gives all.

    Errors: `DataError` for a file that is missing, damaged, of another kind or without an array of that name.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{file}: {'is not a file' if file.exists() else 'is not there'}")
    read = _reader(file)
    try:
        found = read(file)
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{file}: is damaged, or too large for this machine's memory") from error
    except Exception as error:  # the readers of damaged files raise anything; all of it means the same
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{file}: cannot be read ({reason})") from error
    if not found:
        raise DataError(f"{file}: holds no numeric array")
    for name in names or ():
        if name not in found:
            raise DataError(f"{file}: holds no array '{name}'; it has {', '.join(found)}")
    return {name: _plain(found[name], f"{file}: '{name}'") for name in (found if names is None else names)}


def write_fields(path: str | Path, fields: Mapping[str, np.ndarray], *, version: str | None = None) -> None:
    """Write arrays by name, atomically, in the format that the file's ending names: .npy, .npz, .h5, .hdf5 or .mat.

    ``version`` of a ``.mat`` file is "5" or "7.3"; by default the older one, as far as its limit of 2 GiB allows.

    Errors: `InputError` for another ending, a name the format cannot hold, or several arrays for a ``.npy`` file;
    `StorageError` when it cannot be written.
    """
    file = Path(path)
    writers = {".npy": _npy_image, ".npz": _npz_image, ".h5": _hdf5_image, ".hdf5": _hdf5_image}
    arrays = {name: np.asarray(values) for name, values in fields.items()}
    for name, values in arrays.items():
        if values.dtype.kind not in "fiub":
            raise InputError(f"{file.name}: '{name}' is of type {values.dtype}; only real numbers are written")
    suffix = file.suffix.lower()
    if suffix == ".mat":
        image = _mat_image(file, arrays, version)
    elif suffix in writers:
        if suffix == ".npy" and len(arrays) != 1:
            raise InputError(f"{file.name}: {len(arrays)} arrays for a file that holds one; use .npz")
        image = writers[suffix](arrays)
    else:
        raise InputError(f"{file.name}: unknown ending '{file.suffix}'; allowed are {', '.join(writers)} and .mat")
    write_atomically(file, image)


def _reader(file: Path) -> Callable[[Path], dict[str, Any]]:
    with open(file, "rb") as handle:
        head = handle.read(16)
    if head.startswith(b"\x93NUMPY"):
        return _read_npy
    if head.startswith(b"PK"):
        return _read_npz
    if head.startswith(b"MATLAB") or file.suffix.lower() == ".mat":
        return _read_mat
    if h5py.is_hdf5(file):
        return _read_hdf5
    kind = "is empty" if not head else "is none of .npy, .npz, HDF5 or .mat"
    raise DataError(f"{file}: {kind}")


def _read_npy(file: Path) -> dict[str, Any]:
    values = np.load(file, allow_pickle=False)
    return {file.stem: values} if values.dtype.kind in "fiubc" else {}


def _read_npz(file: Path) -> dict[str, Any]:
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files if archive[name].dtype.kind in "fiubc"}


def _read_mat(file: Path) -> dict[str, Any]:
    major, _ = scipy.io.matlab.matfile_version(str(file))
    if major == 2:
        return {name: values.T for name, values in _read_hdf5(file).items()}
    contents = scipy.io.loadmat(str(file))
    return {
        name: values
        for name, values in contents.items()
        if not name.startswith("__") and isinstance(values, np.ndarray) and values.dtype.kind in "fiubc"
    }


def _read_hdf5(file: Path) -> dict[str, Any]:
    (facts,) = look([file], "arrays")
    if "error" in facts:
        raise DataError(f"{file}: {facts['error']}")
    found = {}
    with h5py.File(file, "r", locking=False) as handle:
        for name, entry in facts["arrays"].items():
            dataset = handle[name]
            if not isinstance(dataset, h5py.Dataset) or entry["kind"] not in "fiub" or dataset.shape is None:
                continue
            # MATLAB stores texts and empty arrays as integers too; its class attribute tells.
            label = dataset.attrs.get("MATLAB_class")
            if label is None or (label.decode() in _MATLAB_NUMBERS and "MATLAB_empty" not in dataset.attrs):
                found[name] = dataset[()]
    return found


def _plain(values: Any, where: str) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind == "c":
        raise DataError(f"{where} is complex; fields are real")
    wanted = np.float32 if array.dtype.kind == "f" and array.dtype.itemsize <= 4 else np.float64
    return np.ascontiguousarray(array, dtype=wanted).reshape(array.shape)


def _npy_image(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    for values in arrays.values():
        np.lib.format.write_array(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def _npz_image(arrays: Mapping[str, np.ndarray]) -> bytes:
    # Not numpy.savez: it cannot hold an array named 'file', and puts the time of day into the archive.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, values in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, values, allow_pickle=False)
    return buffer.getvalue()


def _hdf5_image(arrays: Mapping[str, np.ndarray], *, matlab: bool = False) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=512 if matlab else None, libver="earliest") as file:
        for name, values in arrays.items():
            stored = values.astype(np.uint8) if matlab and values.dtype == bool else values
            dataset = file.create_dataset(name, data=np.ascontiguousarray(stored.T) if matlab else stored)
            if matlab:
                dataset.attrs["MATLAB_class"] = np.bytes_(_matlab_class(values.dtype))
    return buffer.getvalue()


def _mat_image(file: Path, arrays: Mapping[str, np.ndarray], version: str | None) -> bytes:
    if version not in (None, "5", "7.3"):
        raise InputError(f"{file.name}: version '{version}'; allowed are '5' and '7.3'")
    for name in arrays:
        if not name.isidentifier() or name.startswith("_") or len(name) > 31:
            raise InputError(
                f"{file.name}: '{name}' is no MATLAB name: letters, digits and _, at most 31, letter first"
            )
    if version is None:
        version = "5" if all(values.nbytes < _V5_LIMIT_BYTES for values in arrays.values()) else "7.3"
    if version == "5":
        buffer = io.BytesIO()
        scipy.io.savemat(buffer, {name: _native(values) for name, values in arrays.items()}, format="5")
        return buffer.getvalue()
    image = bytearray(_hdf5_image({name: np.atleast_2d(_native(a)) for name, a in arrays.items()}, matlab=True))
    image[:128] = _V73_HEADER.ljust(116) + bytes(8) + b"\x00\x02IM"
    return bytes(image)


def _native(values: np.ndarray) -> np.ndarray:
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _matlab_class(dtype: np.dtype) -> str:
    return {"float64": "double", "float32": "single", "bool": "logical"}.get(dtype.name, dtype.name)
