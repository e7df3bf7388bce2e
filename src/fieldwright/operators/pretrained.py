"""Weights of another training as the start of this one: all that fit in name and shape, with a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from fieldwright.errors import DataError
from fieldwright.operators.published_transformer import holds_published, read_published
from fieldwright.operators.store import read_model

SHOWN = 6
"""Names that a report lists before it only counts."""


@dataclass(frozen=True)
class TakenOver:
    """Names of weights: ``matched`` ones were taken from ``source``, ``fresh`` ones of the operator start as they were
    built, ``unused`` ones of the source found no place.
    """

    source: Path
    matched: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What became of the weights, in one line."""
        return (
            f"pretrained weights of {self.source}: {len(self.matched)} taken over; {_listed(self.fresh)} start afresh;"
            f" {_listed(self.unused)} not used"
        )


def load_pretrained(operator: nn.Module, directory: Path) -> TakenOver:
    """Give an operator the weights in a directory that fit in name and shape.

    ``directory`` holds an operator or surrogate of ours, a run, or a published checkpoint of the operator transformer.
    A weight of the same name and another shape, such as the embedding of other fields, is left as it is in the
    operator.

    Errors: `DataError` when the directory is not there or damaged, or when nothing in it fits.
    """
    place = directory / "surrogate" if (directory / "surrogate").is_dir() else directory
    weights = _weights(place)
    own = operator.state_dict()
    matched = tuple(name for name, weight in own.items() if name in weights and weights[name].shape == weight.shape)
    if not matched:
        raise DataError(f"{place}: none of its {len(weights)} weights fits this {type(operator).__name__}")
    operator.load_state_dict({**own, **{name: weights[name] for name in matched}})
    kept = set(matched)
    return TakenOver(
        place,
        matched,
        fresh=tuple(name for name in own if name not in kept),
        unused=tuple(name for name in weights if name not in kept),
    )


def _weights(directory: Path) -> dict[str, Tensor]:
    if holds_published(directory):
        return read_published(directory)[1]
    return read_model(directory)[2]


def _listed(names: tuple[str, ...]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} ({', '.join(names[:SHOWN])}{more})"
