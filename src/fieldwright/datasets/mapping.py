"""A file's arrays without its file format: views into a memory map at known byte offsets."""

from __future__ import annotations

import math
import mmap
import os
from typing import Any

import h5py
import numpy as np

from fieldwright.datasets.layout import FieldLayout, Layout
from fieldwright.datasets.remote import RemoteFile
from fieldwright.errors import DataError


class MappedFile:
    """The arrays of one file, mapped on first use, in each process anew.

    Reading copies from the page cache and goes through no library. Arrays that are chunked or compressed have no one
    place in the file; they are read through HDF5, with a handle that belongs to this process alone.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._process = -1
        self._map: mmap.mmap | None = None
        self._handle: h5py.File | None = None
        self._arrays: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"layout": self.layout}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["layout"])

    def array(self, field: FieldLayout) -> Any:
        """The field's stored array: a read-only NumPy view, or an HDF5 dataset where the file is chunked.

        Errors: `DataError` when the file can no longer be opened.
        """
        if self._process != os.getpid():
            self._process, self._map, self._handle, self._arrays = os.getpid(), None, None, {}
        if field.place not in self._arrays:
            try:
                self._arrays[field.place] = self._open(field)
            except (OSError, ValueError, KeyError) as error:
                raise DataError(f"{self.layout.path}: cannot be read ({error})") from error
        return self._arrays[field.place]

    def _open(self, field: FieldLayout) -> Any:
        if field.offset is None:
            if self._handle is None:
                path = self.layout.path
                self._handle = (
                    h5py.File(path.open()) if isinstance(path, RemoteFile) else h5py.File(path, locking=False)
                )
            return self._handle[field.place]
        if self._map is None:
            with open(str(self.layout.path), "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        flat = np.frombuffer(self._map, np.dtype(field.dtype), math.prod(field.shape), field.offset)
        return flat.reshape(field.shape)
