"""What is known about a surrogate after its evaluation, and how it lies on disk.

``evaluation.json`` holds the figures and ``evaluation.npz`` the arrays, so that a report is drawn again without
computing anything again.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from fieldwright.analysis.break_even import break_even
from fieldwright.analysis.equal_accuracy import SolverKind, SpeedComparison
from fieldwright.analysis.errors import ErrorSummary
from fieldwright.analysis.estimates import EstimateQuality
from fieldwright.analysis.rollout import RolloutErrors
from fieldwright.atomic import write_atomically
from fieldwright.errors import DataError
from fieldwright.grids import Grid
from fieldwright.problems import Field
from fieldwright.settings import first_line

RowKind = Literal["in distribution", "shift", "resolution"]
FORMAT = 1
FIGURES, ARRAYS = "evaluation.json", "evaluation.npz"


@dataclass(frozen=True)
class ErrorRow:
    """Errors on one set of samples; ``note`` says why where there are none."""

    name: str
    kind: RowKind
    shape: tuple[int, ...]
    l2: ErrorSummary | None = None
    h1: ErrorSummary | None = None
    estimate: EstimateQuality | None = None
    note: str = ""


@dataclass(frozen=True)
class DefectRow:
    """A relative defect that an exact discrete solution does not have: of the prediction, and of the stored truth."""

    name: str
    prediction: ErrorSummary
    truth: ErrorSummary | None = None


@dataclass(frozen=True)
class CertifiedSolves:
    """Iterations to a relative residual of ``rtol`` from the prediction and from zero, and those saved per sample."""

    rtol: float
    method: str
    from_prediction: ErrorSummary
    from_zero: ErrorSummary
    saved_median: float
    saved_least: float
    saved_most: float


@dataclass(frozen=True)
class ShownSample:
    """A sample drawn in full: why it was chosen, its place in the test set and its relative L2 error."""

    label: str
    index: int
    error: float


@dataclass(frozen=True)
class BreakEven:
    """From how many samples on the surrogate is the cheaper way than a solver; None for never."""

    name: str
    kind: SolverKind
    solver_seconds: float
    surrogate_seconds: float
    count: int | None


@dataclass(frozen=True)
class Evaluation:
    """Everything measured about a surrogate on data it was not trained on.

    ``errors``     the test set first, then out of distribution, then other resolutions
    ``mean_field`` median relative L2 error of always answering the test set's mean output: what no learning reaches
    ``certified``  iterations that the prediction saves a solver, or why that could not be measured
    ``rollout``    of a problem in time, errors when predictions go on from predictions; of another one None

    ``arrays``, all float: ``inputs, truth, prediction`` (shown sample, channel, *space); ``wavenumber,
    error_spectrum, truth_spectrum`` (bin), means over the test set; ``estimate_i, error_i`` (relative L2) and
    ``bound_i, energy_error_i`` (relative energy norm) by sample for row i of ``errors``; those of `rollout_errors`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(arbitrary_types_allowed=True)

    grid: Grid
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    errors: tuple[ErrorRow, ...]
    mean_field: float
    defects: tuple[DefectRow, ...]
    speed: SpeedComparison
    certified: CertifiedSolves | str
    shown: tuple[ShownSample, ...]
    seconds: float
    rollout: RolloutErrors | None = None
    arrays: dict[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    @property
    def test(self) -> ErrorRow:
        """The row of the test set."""
        return self.errors[0]

    def break_even(self, preparation_seconds: float) -> tuple[BreakEven, ...]:
        """A row for our fastest solver, for SciPy's and for the user's; preparation is generating data and training."""
        surrogate = self.speed.batched.seconds
        return tuple(
            BreakEven(
                rival.name,
                rival.kind,
                rival.seconds,
                surrogate,
                break_even(
                    preparation_seconds=preparation_seconds,
                    surrogate_seconds=surrogate,
                    solver_seconds=rival.seconds,
                ),
            )
            for rival in self.speed.rivals
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, without the arrays."""
        values = dataclasses.asdict(dataclasses.replace(self, arrays={}))
        del values["arrays"]
        return {"format": FORMAT, **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Evaluation:
        """Read back what `to_dict` wrote. Errors: `DataError` for missing or misshapen values."""
        if values.get("format") != FORMAT:
            raise DataError(f"evaluation: format {values.get('format')!r}; this version reads format {FORMAT}")
        named = {name: value for name, value in values.items() if name != "format"}
        try:
            return TypeAdapter(cls).validate_python({**named, "arrays": dict(arrays)})
        except ValidationError as error:
            finding = error.errors()[0]
            where = ".".join(map(str, finding["loc"]))
            raise DataError(f"evaluation: {where}: {finding['msg'].lower()}") from error

    def save(self, directory: Path) -> None:
        """Write ``evaluation.npz``, then ``evaluation.json``: where the latter is, both are whole.

        Errors: `StorageError` when they cannot be written.
        """
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **self.arrays)
        write_atomically(directory / ARRAYS, buffer.getbuffer())
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False)
        write_atomically(directory / FIGURES, text.encode())

    @classmethod
    def load(cls, directory: Path) -> Evaluation:
        """Read what `save` wrote. Errors: `DataError` when a file is missing or damaged."""
        try:
            values = json.loads((directory / FIGURES).read_text(encoding="utf-8"))
            with np.load(directory / ARRAYS, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"evaluation in {directory}: {first_line(error)}") from error
        if not isinstance(values, dict):
            raise DataError(f"evaluation in {directory}: {FIGURES} holds no mapping")
        return cls.from_dict(values, arrays)
