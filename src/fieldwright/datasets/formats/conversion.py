"""``fieldwright convert``: a set of any format that is read, into a dataset of ours or a file of another format."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fieldwright.datasets.formats.deepxde import lost_in_deepxde, read_deepxde, write_deepxde
from fieldwright.datasets.formats.detect import Found, recognise
from fieldwright.datasets.formats.export import Selection, Target
from fieldwright.datasets.formats.hdf5 import read_hdf5
from fieldwright.datasets.formats.joined import joined
from fieldwright.datasets.formats.matlab import lost_in_matlab, read_matlab, write_matlab
from fieldwright.datasets.formats.native import sample_bytes, write_native
from fieldwright.datasets.formats.neuralop import lost_in_neuralop, read_neuralop, write_neuralop
from fieldwright.datasets.formats.numpy_arrays import lost_in_numpy, read_numpy, write_npz
from fieldwright.datasets.formats.pdebench import read_pdebench
from fieldwright.datasets.formats.pdebench_writing import lost_in_pdebench, write_pdebench
from fieldwright.datasets.formats.physicsnemo import lost_in_physicsnemo, write_physicsnemo
from fieldwright.datasets.formats.poseidon import lost_in_poseidon, read_poseidon, write_poseidon
from fieldwright.datasets.formats.roles import parse_map
from fieldwright.datasets.formats.samples_first import samples_first
from fieldwright.datasets.formats.source import SPLITS, Reading, Source
from fieldwright.datasets.formats.the_well import read_well
from fieldwright.datasets.formats.zarr_xarray import read_netcdf, read_zarr
from fieldwright.datasets.locking import alone
from fieldwright.datasets.remote import RemoteFile
from fieldwright.errors import InputError
from fieldwright.progress import SILENT, Reporter
from fieldwright.settings import allowed

_SHARD_BYTES = 1 << 27
_BLOCK_BYTES = 1 << 24


@dataclass(frozen=True)
class _Writer:
    lost: Callable[[Target], list[str]]
    write: Callable[[Target], list[Path]]


_WRITERS: dict[str, _Writer] = {
    "pdebench": _Writer(lost_in_pdebench, write_pdebench),
    "matlab": _Writer(lost_in_matlab, write_matlab),
    "matlab-v5": _Writer(lost_in_matlab, lambda target: write_matlab(target, version="5")),
    "matlab-v7.3": _Writer(lost_in_matlab, lambda target: write_matlab(target, version="7.3")),
    "numpy": _Writer(lost_in_numpy, write_npz),
    "deepxde": _Writer(lost_in_deepxde, write_deepxde),
    "poseidon": _Writer(lost_in_poseidon, write_poseidon),
    "neuralop": _Writer(lost_in_neuralop, write_neuralop),
    "physicsnemo": _Writer(lost_in_physicsnemo, write_physicsnemo),
}
WRITABLE = ("well", *_WRITERS)
_ENDINGS = {".mat": "matlab", ".npz": "numpy", ".nc": "poseidon", ".pt": "neuralop", "": "well"}


@dataclass(frozen=True)
class Conversion:
    """What was converted: ``samples`` per split, ``fields`` with their roles, the ``files`` or shards that hold them.

    ``notes`` are what was assumed of the source or left out, ``lost`` what the target's readers do not see.
    """

    source_format: str
    format: str
    name: str
    path: str
    samples: dict[str, int]
    shape: tuple[int, ...]
    times: int
    fields: list[str]
    files: list[str]
    shards: int
    notes: list[str]
    lost: list[str]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """The same in one line."""
        counts = ", ".join(f"{count} {split}" for split, count in self.samples.items())
        size = " x ".join(map(str, self.shape))
        over = f" at {self.times} times" if self.times else ""
        kept = f"{self.shards} shards" if self.shards else ", ".join(self.files)
        what = f"{', '.join(self.fields)} on {size} points{over}"
        return f"{self.name}: {counts} samples of {what}, in {kept} at {self.path}"


def convert(
    source: str | Path,
    destination: str | Path,
    *,
    source_format: str = "",
    format: str = "",
    split: str = "",
    roles: Sequence[str] = (),
    grid: str = "",
    limit: int | None = None,
    shard_bytes: int = _SHARD_BYTES,
    reporter: Reporter = SILENT,
) -> Conversion:
    """Convert a set of samples.

    ``source``         a file, a directory, a pattern of files or an address; its format is recognised by its content
    ``destination``    a directory for a dataset of ours (and for neuralop's files), else a file
    ``source_format``  what the source is, where recognition is to be overruled
    ``format``         what to write; by default what the destination's ending says, a dataset of ours without one
    ``split``          "train=0.8,valid=0.1,test=0.1": shares, or numbers of samples, in the order of the source
    ``roles``          what arrays mean that only have names: "coeff=input", "u=output:nxyt" (see `roles`)
    ``grid``           of points without coordinates: "node", "periodic 0:6.2832", "cell -1:1 0:2"
    ``limit``          at most so many samples of each split
    ``shard_bytes``    about what one shard holds; memory is a few times that, whatever the size of the set

    Interrupted and called again, finished shards of a dataset are kept if the source and the settings are the same.

    Errors: `DataError` for a source that is missing, damaged, unclear or not finite, `InputError` for an impossible
    setting, `StorageError` when the target cannot be written.
    """
    began = time.perf_counter()
    target = Path(destination)
    wanted = _target_format(target, format)
    if limit is not None and limit < 1:
        raise InputError(f"convert: --limit {limit}; at least 1 is needed")
    words = parse_map(roles)
    with _scratch(target) as scratch, contextlib.closing(Reading(scratch, words, grid, budget=shard_bytes)) as reading:
        found = recognise(str(source), source_format, reading.opened)
        set_ = _read(found, reading)
        selections = _selections(set_, split, limit, reporter)
        at_once = max(1, shard_bytes // sample_bytes(set_))
        lost = [] if wanted == "well" else _WRITERS[wanted].lost(Target(set_, selections, target))
        for note in set_.notes:
            reporter.notice(f"convert: {note}")
        for sentence in lost:
            reporter.notice(f"convert: not in {wanted}: {sentence}")
        set_ = samples_first(set_, reading, at_once)
        files: list[Path] = []
        shards = 0
        if wanted == "well":
            settings = _settings(found, {"map": list(roles), "grid": grid, "split": split, "limit": limit})
            shards = write_native(set_, selections, target, settings=settings, shard_samples=at_once, reporter=reporter)
        else:
            total = sum(map(len, selections.values()))
            with reporter.stage(f"convert {set_.name}", total=total, unit="samples") as stage:
                files = _WRITERS[wanted].write(
                    Target(set_, selections, target, stage.advance, min(_BLOCK_BYTES, shard_bytes))
                )
    return Conversion(
        source_format=set_.format,
        format=wanted,
        name=set_.name,
        path=str(target),
        samples={name: len(chosen) for name, chosen in selections.items()},
        shape=set_.grid.shape,
        times=len(set_.times),
        fields=[f"{variable.role} {variable.name}" for variable in set_.variables],
        files=[file.name for file in files],
        shards=shards,
        notes=list(set_.notes),
        lost=lost,
        seconds=time.perf_counter() - began,
    )


def _read(found: Found, reading: Reading) -> Source:
    if found.format == "well":
        splits = found.splits or {"train": found.places}
        return _without_roles(read_well(splits, reading), reading)
    readers: dict[str, Callable[[Sequence[Any]], Source]] = {
        "pdebench": lambda places: _without_roles(read_pdebench(places, reading), reading),
        "matlab": lambda places: joined([read_matlab(place, reading) for place in places]),
        "numpy": lambda places: read_numpy(places, reading),
        "deepxde": lambda places: joined([read_deepxde(place, reading) for place in places]),
        "poseidon": lambda places: _without_roles(joined([read_poseidon(place, reading) for place in places]), reading),
        "neuralop": lambda places: joined([read_neuralop(place, reading) for place in places]),
        "physicsnemo": lambda places: read_hdf5(places, reading),
        "hdf5": lambda places: read_hdf5(places, reading),
        "zarr": lambda places: joined([read_zarr(place, reading) for place in places]),
        "netcdf": lambda places: joined([read_netcdf(place, reading) for place in places]),
    }
    read = readers[found.format]
    if not found.splits:
        return read(found.places)
    # Names of files say which split they are.
    parts = []
    for split, places in found.splits.items():
        source = read(places)
        parts.append(replace(source, splits={split: (range(source.samples),)}))
    return joined(parts)


def _without_roles(source: Source, reading: Reading) -> Source:
    """The source of a format that says what everything is; the user's words for it would be passed over.

    Errors: `InputError` when there are any.
    """
    if reading.roles or reading.grid:
        what = "--map" if reading.roles else "--grid"
        raise InputError(f"convert: {what} is for arrays without a known layout; this set is {source.format}'s")
    return source


def _selections(source: Source, split: str, limit: int | None, reporter: Reporter) -> dict[str, Selection]:
    if split:
        splits = _stated_splits(split, source.samples)
    elif source.splits:
        splits = {name: tuple(source.splits[name]) for name in SPLITS if source.splits.get(name)}
    else:
        splits = {"train": (range(source.samples),)}
        reporter.notice(
            "convert: the source has no splits, so all samples are in train; --split train=0.8,valid=0.1,test=0.1 parts"
            " them"
        )
    found = {}
    for name, ranges in splits.items():
        selection = Selection(tuple(part for part in ranges if len(part)))
        if limit is not None:
            pieces = selection.pieces(0, min(limit, len(selection)))
            selection = Selection(tuple(range(piece.start, piece.stop) for piece in pieces))
        if len(selection):
            found[name] = selection
    return found


def _stated_splits(text: str, samples: int) -> dict[str, tuple[range, ...]]:
    """Shares or numbers of samples by position.

    Errors: `InputError` for an unknown split, a text of another form, or more than there is.
    """
    shares: dict[str, float] = {}
    for entry in text.split(","):
        name, _, value = entry.strip().partition("=")
        if name not in SPLITS:
            raise InputError(f"--split: '{name}'; {allowed(name, SPLITS)}")
        try:
            shares[name] = float(value)
        except ValueError as error:
            raise InputError(f"--split: '{entry.strip()}'; write it like {name}=0.8 or {name}=1000") from error
        if not shares[name] > 0:
            raise InputError(f"--split: '{entry.strip()}'; a share or a number of samples is above 0")
    fractions = all(value <= 1 for value in shares.values())
    total = sum(shares.values())
    if total > (1 + 1e-9 if fractions else samples):
        raise InputError(f"--split: {text} asks for {total:g} of {1 if fractions else samples}")
    found, place, sum_so_far = {}, 0, 0.0
    for name, value in shares.items():
        sum_so_far += value
        end = round(sum_so_far * samples) if fractions else round(sum_so_far)
        if end > place:
            found[name] = (range(place, end),)
        place = end
    return found


def _target_format(target: Path, stated: str) -> str:
    if stated:
        if stated not in WRITABLE:
            raise InputError(f"--to: '{stated}'; {allowed(stated, WRITABLE)}")
        return stated
    ending = target.suffix.lower() if not target.is_dir() else ""
    if ending in (".hdf5", ".h5"):
        raise InputError(f"convert: {target.name} may be pdebench's or physicsnemo's; say which by --to")
    return _ENDINGS.get(ending, "well")


def _settings(found: Found, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a dataset follows from: the source, by names, sizes and times of change, and what was asked of it."""
    size, changed, first = 0, 0, found.places[0]
    for place in found.places:
        if isinstance(place, RemoteFile):
            size += place.size
        else:
            for file in [place] if Path(place).is_file() else sorted(Path(place).rglob("*")):
                facts = os.stat(file)
                size, changed = size + facts.st_size, max(changed, facts.st_mtime_ns)
    source = {"format": found.format, "first": str(getattr(first, "name", first)), "files": len(found.places)}
    return {"source": {**source, "bytes": size, "changed": changed}, **options}


@contextlib.contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """A directory beside the target for what is put in another order on the way; nothing of it stays."""
    directory = target.parent / f".{target.name}.conversion"
    with alone(directory):
        for left in directory.iterdir():
            if left.name != ".lock":
                left.unlink()
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)
