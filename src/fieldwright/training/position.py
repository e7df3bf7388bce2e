"""Where a training stands, and all that a checkpoint holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from torch import Tensor

from fieldwright.training.averaging import WeightAverage
from fieldwright.training.metrics import Row
from fieldwright.training.optimizers import NamedState
from fieldwright.training.prediction import ValidationErrors


@dataclass
class Position:
    """Counters of a training. ``step``, ``phase_seconds`` and ``phase_flops`` count within the phase, the others over
    all phases. ``step_flops`` are the operations of a step of the phase, None before its first.

    ``loss_sums`` are sums of each loss over the ``summed_steps`` steps since the last row of the metrics, and
    ``validated_step`` is the step of the phase at which validation last ran.
    """

    phase: int = 0
    step: int = 0
    total_steps: int = 0
    phase_seconds: float = 0.0
    seconds: float = 0.0
    step_flops: int | None = None
    flops: int = 0
    loss_sums: list[float] = field(default_factory=list)
    summed_steps: int = 0
    validated_step: int = 0
    last: ValidationErrors | None = None
    best: ValidationErrors | None = None
    best_step: int = 0

    @property
    def phase_flops(self) -> int:
        return self.step * (self.step_flops or 0)

    def validated(self, errors: ValidationErrors) -> None:
        """Take note of a validation; the best one is the one with the least relative L2 error."""
        self.last, self.validated_step = errors, self.step
        if self.best is None or errors.relative_l2 < self.best.relative_l2:
            self.best, self.best_step = errors, self.total_steps

    def next_phase(self) -> None:
        """Go to the start of the phase that follows."""
        self.phase += 1
        self.step = self.summed_steps = self.validated_step = 0
        self.phase_seconds, self.step_flops, self.loss_sums = 0.0, None, []


@dataclass
class TrainingState:
    """All that decides how a training goes on. ``identity`` says which training it is of, see `identity`.

    Random generators are not in it because no draw depends on an earlier one (`fieldwright.training.seeding`), and the
    sampler's place is the step.
    """

    identity: str
    position: Position
    operator: dict[str, Tensor]
    optimizer: NamedState
    average: WeightAverage | None
    rows: list[Row]
    callbacks: list[dict[str, Any]] = field(default_factory=list)
    lineage: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Tensors and plain values only; tensors are shared, not copied."""
        return {
            **{name: getattr(self, name) for name in ("identity", "operator", "optimizer", "rows")},
            **{name: getattr(self, name) for name in ("callbacks", "lineage")},
            "position": asdict(self.position),
            "average": vars(self.average) if self.average is not None else None,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The state that `to_dict` wrote."""
        position = dict(values["position"])
        for name in ("last", "best"):
            position[name] = ValidationErrors(**position[name]) if position[name] is not None else None
        average = WeightAverage(**values["average"]) if values["average"] is not None else None
        return cls(**{**values, "position": Position(**position), "average": average})
