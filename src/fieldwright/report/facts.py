"""What the report tells about the run beside its evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fieldwright.training.noise_scale import BatchAdvice


@dataclass(frozen=True)
class RunFacts:
    """How a surrogate came about, and everything needed to make it again.

    ``title``          name of the run, such as "darcy"
    ``problem``        one line with the equation
    ``operator``       kind of operator, with ``parameters`` trainable numbers
    ``solver``         the method that solved the data
    ``stage_seconds``  wall-clock seconds of "generate", "train" and any further stage
    ``metrics``        rows of ``metrics.csv``, "step", "train_loss" and "valid_l2", the relative L2 error on the
                       validation split, None where one was not measured; also "flops", the training operations so far,
                       "phase", its number, and "constraint_excess" where it was logged
    ``dataset``        plain facts of the dataset by name; ``checksums`` SHA-256 by file
    ``command``        the command line, ``recipe`` the resolved recipe as YAML text
    ``environment``    versions and machine, plain values, one level of nesting allowed
    ``batches``        what other batch sizes would do, where the noise scale was measured
    ``created``        date and time of the run, as text
    """

    title: str
    problem: str
    operator: str
    parameters: int
    solver: str
    seed: int
    command: str
    recipe: str
    stage_seconds: Mapping[str, float]
    metrics: Sequence[Mapping[str, float | None]] = ()
    dataset: Mapping[str, Any] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    batches: BatchAdvice | None = None
    created: str = ""

    @property
    def preparation_seconds(self) -> float:
        """What the surrogate cost before its first prediction: generating data and training."""
        return self.stage_seconds.get("generate", 0.0) + self.stage_seconds.get("train", 0.0)
