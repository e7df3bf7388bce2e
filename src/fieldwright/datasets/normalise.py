"""Normalisation of fields: (x - mean) / std per channel, or per channel and grid point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError

MODES = ("channel", "point")
# The published operators that normalise per point add this to the deviation (Li et al. 2021, UnitGaussianNormalizer).
_POINT_EPSILON = 1e-5


@dataclass(frozen=True)
class Normalizer:
    """x -> (x - mean) / std with ``mean`` and ``std`` of shape (channel,) or, per grid point, (channel, *space).

    Encoded fields are dimensionless; `decode` gives physical units back. ``names`` are the channels'.

    Errors: `InputError` when shapes disagree, a deviation is not positive or a number is not finite.
    """

    mean: Float[Tensor, "channel *space"]
    std: Float[Tensor, "channel_of_std *space_of_std"]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if self.mean.shape != self.std.shape or self.mean.ndim < 1:
            raise InputError(
                f"normalizer: mean of shape {tuple(self.mean.shape)}, std of shape {tuple(self.std.shape)}"
            )
        if self.names and len(self.names) != len(self.mean):
            raise InputError(f"normalizer: {len(self.names)} names for {len(self.mean)} channels")
        if not bool(self.mean.isfinite().all() and self.std.isfinite().all() and (self.std > 0).all()):
            raise InputError("normalizer: mean and std must be finite and std positive")

    @classmethod
    def fit(
        cls, fields: Float[Tensor, "batch channel *space"], *, names: Sequence[str] = (), mode: str = "channel"
    ) -> Normalizer:
        """Mean and deviation of a batch, taken in float64; a channel that does not vary gets std 1.

        "channel": over samples and grid points. "point": over samples only, unbiased, plus 1e-5, as in the papers whose
        figures are measured that way; such a normalizer serves one resolution.

        Errors: `InputError` for an unknown mode, an empty batch or values that are not finite.
        """
        if mode not in MODES:
            raise InputError(f"normalizer: mode '{mode}'; allowed are {' and '.join(MODES)}")
        if fields.ndim < 3 or not fields.numel() or (mode == "point" and len(fields) < 2):
            raise InputError(f"normalizer: fields of shape {tuple(fields.shape)} are too few to fit mode '{mode}'")
        if mode == "point":
            values = fields.double()
            return cls(values.mean(0).float(), (values.std(0) + _POINT_EPSILON).float(), tuple(names))
        moments = [torch.std_mean(fields[:, c].double(), correction=0) for c in range(fields.shape[1])]
        mean = torch.stack([mean for _, mean in moments])
        std = torch.stack([std for std, _ in moments])
        # A constant field has the deviation of its rounding errors; dividing by that would blow them up.
        flat = std <= 1e-7 * mean.abs()
        return cls(mean.float(), torch.where(flat | (std.float() == 0), 1.0, std).float(), tuple(names))

    @property
    def mode(self) -> str:
        return "channel" if self.mean.ndim == 1 else "point"

    def first(self, channels: int) -> Normalizer:
        """That of the first so many channels alone."""
        return Normalizer(self.mean[:channels], self.std[:channels], self.names[:channels])

    def encode(self, fields: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """Physical units to normalised ones.

        Errors: `InputError` for another number of channels, or another resolution in mode "point".
        """
        mean, std = self._fitted_to(fields)
        return (fields - mean) / std

    def decode(self, fields: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """Normalised units to physical ones; errors as `encode`."""
        mean, std = self._fitted_to(fields)
        return fields * std + mean

    def to(self, device: torch.device | str) -> Normalizer:
        """The same numbers on a device."""
        return Normalizer(self.mean.to(device), self.std.to(device), self.names)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON; `from_dict` gives the same float32 bits back."""
        return {"names": list(self.names), "mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Normalizer:
        """Errors: `InputError` for a table that `to_dict` would not have written."""
        try:
            mean = torch.tensor(facts["mean"], dtype=torch.float32)
            std = torch.tensor(facts["std"], dtype=torch.float32)
            names = tuple(str(name) for name in facts["names"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"normalizer: not a table of names, mean and std ({error})") from error
        return cls(mean, std, names)

    def _fitted_to(self, fields: Tensor) -> tuple[Tensor, Tensor]:
        space = tuple(fields.shape[2:])
        fits = fields.ndim >= 2 and fields.shape[1] == len(self.mean)
        if not fits or (self.mode == "point" and space != tuple(self.mean.shape[1:])):
            raise InputError(f"normalizer: fields of shape {tuple(fields.shape)} for one of {tuple(self.mean.shape)}")
        shape = (len(self.mean), *([1] * len(space) if self.mode == "channel" else space))
        return self.mean.reshape(shape).to(fields), self.std.reshape(shape).to(fields)
