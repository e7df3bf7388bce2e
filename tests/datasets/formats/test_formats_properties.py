"""Any set in one to three dimensions survives every format, with all kinds of fields, numbers, walls and splits."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.datasets.formats.deepxde import read_deepxde, write_deepxde
from fieldwright.datasets.formats.export import Selection, Target
from fieldwright.datasets.formats.hdf5 import read_hdf5
from fieldwright.datasets.formats.joined import joined
from fieldwright.datasets.formats.matlab import read_matlab, write_matlab
from fieldwright.datasets.formats.neuralop import read_neuralop, write_neuralop
from fieldwright.datasets.formats.numpy_arrays import read_numpy, write_npz
from fieldwright.datasets.formats.pdebench import read_pdebench
from fieldwright.datasets.formats.pdebench_writing import write_pdebench
from fieldwright.datasets.formats.physicsnemo import write_physicsnemo
from fieldwright.datasets.formats.poseidon import read_poseidon, write_poseidon
from fieldwright.datasets.formats.source import Part, Reading, Source, Variable
from fieldwright.datasets.store import Sides, StoredScalar
from fieldwright.errors import DataError
from fieldwright.grids import AXES, Grid

WALLS = [("periodic", "periodic"), ("dirichlet", "neumann"), ("wall", "open")]
SAMPLES = st.integers(1, 5)


@st.composite
def sources(draw: st.DrawFn, *, one_output: bool = False, steady: bool | None = None) -> Source:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dimension, samples = draw(st.integers(1, 3)), draw(SAMPLES)
    centring = draw(st.sampled_from(["node", "cell", "periodic"]))
    shape = tuple(draw(st.integers(2, 4)) for _ in range(dimension))
    grid = Grid(shape, centring, (-0.5,) * dimension, (0.75,) * dimension)
    rests = draw(st.booleans()) if steady is None else steady
    steps = draw(st.integers(2, 4))
    times = draw(st.sampled_from([np.arange(float(steps)), np.cumsum(random.random(steps))]))
    times = np.zeros(0) if rests else times

    def variable(name: str, role: str, order: int, by_sample: bool) -> Variable:
        axes = "n" * by_sample + "t" * (role == "output" and not rests) + "".join(AXES[:dimension]) + "vw"[:order]
        sizes = {"n": samples, "t": len(times), "v": dimension, "w": dimension, **dict(zip(AXES, shape, strict=False))}
        values = random.standard_normal([sizes[a] for a in axes]).astype(np.float32)
        unit = draw(st.sampled_from(["1", "m/s", "µm"]))
        return Variable(name, role, (Part(values, axes),), order, unit, "said of it")  # type: ignore[arg-type]

    variables = [variable("out", "output", 0 if one_output else draw(st.integers(0, 2)), True)]
    if not one_output and draw(st.booleans()):
        variables.append(variable("other out", "output", draw(st.integers(0, 1)), True))
    for number in range(draw(st.integers(int(rests), 2))):
        variables.append(variable(f"in{number}", "input", draw(st.integers(0, 1)), draw(st.booleans())))
    numbers = []
    for by_sample in (False, True):
        for by_time in (False, True) if len(times) else (False,):
            if draw(st.booleans()):
                values = random.random((samples,) * by_sample + (len(times),) * by_time)
                numbers.append(
                    StoredScalar(f"number{by_sample:d}{by_time:d}", values, by_sample, by_time, "K", by_sample)
                )
    sides = Sides(tuple(draw(st.sampled_from(WALLS)) for _ in shape) if draw(st.booleans()) else ())
    return Source("a set", "test", (Path("set"),), samples, grid, tuple(variables), times, sides, tuple(numbers),
                  provenance={"seed": 7, "solver": "exact"})  # fmt: skip


def selections(source: Source, cut: int) -> dict[str, Selection]:
    """Two splits, the later samples first; or one where there is but one sample."""
    cut = min(cut, source.samples - 1)
    parts = {"train": range(cut, source.samples), "test": range(cut)}
    return {split: Selection((part,)) for split, part in parts.items() if len(part)}


def check_same(source: Source, chosen: dict[str, Selection], found: Source) -> None:
    assert found.grid == source.grid
    assert found.sides == source.sides
    np.testing.assert_array_equal(found.times, source.times)
    assert [(v.name, v.role, v.order, v.unit, v.description, v.sample_varying) for v in found.variables] == [
        (v.name, v.role, v.order, v.unit, v.description, v.sample_varying) for v in source.variables
    ]
    assert found.provenance == source.provenance
    for split, selection in chosen.items():
        (piece,), ((rows,),) = selection.pieces(0, len(selection)), [found.splits[split]]
        for ours, theirs in zip(source.variables, found.variables, strict=True):
            np.testing.assert_array_equal(
                theirs.read(slice(rows.start, rows.stop), found.grid), ours.read(piece, source.grid)
            )
        for number, again in zip(source.scalars, found.scalars, strict=True):
            assert (number.name, number.unit, number.channel) == (again.name, again.unit, again.channel)
            values = number.values[piece] if number.sample_varying else number.values
            found_values = again.values[rows.start : rows.stop] if number.sample_varying else again.values
            np.testing.assert_array_equal(found_values, values)


def there_and_back(
    source: Source,
    cut: int,
    name: str,
    write: Callable[[Target], list[Path]],
    read: Callable[[Path, Reading], Source],
) -> None:
    chosen = selections(source, cut)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        written = write(Target(source, chosen, root / name, block_bytes=64))
        with contextlib.closing(Reading(root)) as reading:
            found = joined([read(path, reading) for path in sorted(written, reverse=True)])
            check_same(source, chosen, found)
        assert not list(root.rglob("*.partial*"))


FORMATS: dict[str, tuple[str, Callable[[Target], list[Path]], Callable[[Path, Reading], Source]]] = {
    "numpy": ("set.npz", write_npz, lambda path, reading: read_numpy([path], reading)),
    "matlab-v5": ("set.mat", lambda target: write_matlab(target, version="5"), read_matlab),
    "matlab-v7.3": ("set.mat", lambda target: write_matlab(target, version="7.3"), read_matlab),
    "neuralop": ("files", write_neuralop, read_neuralop),
    "pdebench": ("set.hdf5", write_pdebench, lambda path, reading: read_pdebench([path], reading)),
    "poseidon": ("set.nc", write_poseidon, read_poseidon),
    "physicsnemo": ("set.h5", write_physicsnemo, lambda path, reading: read_hdf5([path], reading)),
}


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=6, deadline=None)
@given(source=sources(), cut=st.integers(0, 3))
def test_any_set_survives_the_way_there_and_back(format: str, source: Source, cut: int):
    there_and_back(source, cut, *FORMATS[format])


@settings(max_examples=6, deadline=None)
@given(source=sources(steady=False), cut=st.integers(0, 3))
def test_any_evolving_set_survives_as_a_group_per_sample(source: Source, cut: int):
    # A configuration per sample has numbers, not series; those stand in the note.
    there_and_back(source, cut, "set.h5", write_pdebench, lambda path, reading: read_pdebench([path], reading))


@settings(max_examples=10, deadline=None)
@given(source=sources(one_output=True), cut=st.integers(0, 3))
def test_any_set_of_one_output_survives_as_points(source: Source, cut: int):
    there_and_back(source, cut, "set.npz", write_deepxde, read_deepxde)


@settings(max_examples=40, deadline=None)
@given(source=sources(), data=st.data())
def test_parts_of_a_set_join_to_the_set(source: Source, data: st.DataObject):
    cut = data.draw(st.integers(0, source.samples - 1))
    parts = []
    for split, rows in (("train", slice(0, cut)), ("test", slice(cut, source.samples))):
        count = len(range(source.samples)[rows])
        if count:
            parts.append(part_of(source, rows, count, split))
    whole = joined(parts)
    assert whole.samples == source.samples
    assert sum(len(part) for ranges in whole.splits.values() for part in ranges) == source.samples
    for ours, theirs in zip(source.variables, whole.variables, strict=True):
        every = slice(0, source.samples)
        np.testing.assert_array_equal(theirs.read(every, source.grid), ours.read(every, source.grid))
    for ours, theirs in zip(source.scalars, whole.scalars, strict=True):
        np.testing.assert_array_equal(ours.values, theirs.values)


def part_of(source: Source, rows: slice, count: int, split: str) -> Source:
    """Some samples as a source of their own."""

    def cut(part: Part) -> Part:
        return Part(part.array[rows] if "n" in part.axes else part.array, part.axes)

    variables = [
        Variable(v.name, v.role, tuple(map(cut, v.parts)), v.order, v.unit, v.description) for v in source.variables
    ]
    numbers = [dataclasses.replace(s, values=s.values[rows] if s.sample_varying else s.values) for s in source.scalars]
    return Source(source.name, "test", (Path(split),), count, source.grid, tuple(variables), source.times, source.sides,
                  tuple(numbers), {split: (range(count),)})  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"grid": Grid((4,), "cell", (0.0,), (2.0,))}, "its grid is"),
        ({"times": np.array([0.0, 2.0])}, "its times are 2 from 0 to 2, but 2 from 0 to 1"),
        ({"sides": Sides((("open", "open"),))}, "its walls are"),
        ({"scalars": (StoredScalar("nu", np.array(1.0), unit="m^2/s"),)}, r"its parameters are \['nu \[m\^2/s\]'\]"),
        ({"scalars": ()}, r"its parameters are \[\]"),
    ],
)
def test_sets_that_differ_do_not_join(change: dict, words: str):
    field = Variable("u", "output", (Part(np.zeros((3, 2, 4)), "ntx"),))
    facts = {
        "name": "a", "format": "test", "files": (Path("first"),), "samples": 3, "grid": Grid((4,)),
        "variables": (field,), "times": np.array([0.0, 1.0]), "scalars": (StoredScalar("nu", np.array(1.0)),),
    }  # fmt: skip
    first, other = Source(**facts), Source(**{**facts, "files": (Path("second"),), **change})
    with pytest.raises(DataError, match=f"second: {words}"):
        joined([first, other])
    assert joined([first, first]).samples == 6
