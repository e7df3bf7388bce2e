"""Fields that a decoder knows at every point of a box, on grids and at points."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fieldwright.errors import InputError
from fieldwright.operators.branch_trunk import BranchTrunk
from fieldwright.operators.encoders import Encoder


class DecodedFields(nn.Module):
    """Fields of a latent: ``decoder`` evaluated on grids of ``domain`` and at points in it.

    Outside training the decoder's factors on the last grid are kept, and computed again when a weight has changed.
    """

    def __init__(self, encoder: Encoder, decoder: BranchTrunk, *, max_lead_time: float | None, vanish: bool) -> None:
        super().__init__()
        if max_lead_time is not None and not 0 < max_lead_time < float("inf"):
            raise InputError(f"max_lead_time: {max_lead_time}; it must be a positive number, or None")
        self.encoder, self.decoder, self.domain = encoder, decoder, encoder.domain
        self.max_lead_time, self.vanish = max_lead_time, vanish
        self._kept: tuple[tuple, list[Tensor]] | None = None

    def forward(
        self, inputs: Float[Tensor, "batch channel *space"], lead_time: Tensor | float | None
    ) -> Float[Tensor, "batch output *space"]:
        """The fields on the grid of the inputs."""
        dtype = next(self.decoder.parameters()).dtype
        lines = self.domain.axes(inputs.shape[2:], dtype=dtype, device=inputs.device)
        scaled = [self.domain.scaled_axis(line, axis) for axis, line in enumerate(lines)]
        return self._on_lines(inputs, scaled, lead_time, keep=True)

    def on_axes(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        axes: Sequence[Float[Tensor, "_"]],
        lead_time: Tensor | float | None,
    ) -> Float[Tensor, "batch output *line"]:
        """The fields on the tensor grid of these coordinates."""
        if len(axes) != self.domain.dimension:
            raise InputError(f"axes: {len(axes)} given; the operator has {self.domain.dimension}")
        for axis, line in enumerate(axes):
            self.domain.check_axis(line, axis)
        scaled = [self.domain.scaled_axis(line, axis) for axis, line in enumerate(axes)]
        return self._on_lines(inputs, scaled, lead_time, keep=False)

    def at(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        points: Float[Tensor, "*some point axis"],
        lead_time: Tensor | float | None,
        *,
        check: bool,
    ) -> Float[Tensor, "batch point output"]:
        """The fields at points (point, axis) that all samples share, or (batch, point, axis) of each sample's own."""
        shapes = (2, 3) if points.ndim == 2 or len(points) == len(inputs) else ()
        if points.ndim not in shapes or points.shape[-1] != self.domain.dimension:
            raise InputError(
                f"points of shape {tuple(points.shape)}; the operator takes (point, {self.domain.dimension}) for all"
                f" samples, or ({len(inputs)}, point, {self.domain.dimension}), one row of points per sample"
            )
        for axis in range(self.domain.dimension if check else 0):
            self.domain.check_axis(points[..., axis], axis)
        coefficients, scaled = self.decoder.coefficients(self.encoder(inputs)), self.domain.scaled(points)
        lead = self._lead(inputs, lead_time, scaled)
        if lead is not None and self.decoder.separable:
            coefficients = coefficients * self._lead_factor(lead)
        basis = self.decoder.basis(scaled if lead is None or self.decoder.separable else _with_lead(scaled, lead))
        if basis.ndim == 2:
            fields = self.decoder.contract(coefficients, [basis])
        else:
            fields = self.decoder.contract_each(coefficients, basis)
        if self.vanish:
            for axis in range(self.domain.dimension):
                distance = self.domain.distance_axis(scaled[..., axis], axis)
                fields = fields * (distance if distance.ndim == 1 else distance[:, None])
        return fields.mT.to(inputs.dtype)

    def _on_lines(
        self, inputs: Tensor, lines: list[Tensor], lead_time: Tensor | float | None, *, keep: bool
    ) -> Float[Tensor, "batch output *line"]:
        coefficients, shape = self.decoder.coefficients(self.encoder(inputs)), [len(line) for line in lines]
        lead = self._lead(inputs, lead_time, lines[0])
        if lead is not None and self.decoder.separable:
            coefficients, lead = coefficients * self._lead_factor(lead), None
        if lead is None or len(lead) == 1:
            every = lines if lead is None else [*lines, lead]
            factors = self._factors(every, keep=keep and lead is None)
            fields = self.decoder.contract(coefficients, factors)
        else:
            points = torch.stack([x.flatten() for x in torch.meshgrid(*lines, indexing="ij")], -1)
            fields = self.decoder.contract_each(coefficients, self.decoder.basis(_with_lead(points, lead)))
        fields = fields.flatten(2).unflatten(2, shape)
        if self.vanish:
            for axis, line in enumerate(lines):
                fields = fields * self.domain.distance_axis(line, axis).view(-1, *(1,) * (len(lines) - axis - 1))
        return fields.to(inputs.dtype)

    def _lead(self, inputs: Tensor, lead_time: Tensor | float | None, like: Tensor) -> Float[Tensor, " lead"] | None:
        # One lead time for all samples or one each, brought to -1..1.
        if self.max_lead_time is None or lead_time is None:
            if self.max_lead_time is None and lead_time is not None:
                raise InputError("lead_time: this operator is a steady one; give it max_lead_time to take a lead time")
            if self.max_lead_time is not None:
                raise InputError(f"lead_time: missing; the operator needs one from 0 to {self.max_lead_time:g}")
            return None
        lead = torch.as_tensor(lead_time, dtype=like.dtype, device=like.device).reshape(-1)
        if len(lead) not in (1, len(inputs)):
            raise InputError(f"lead_time: {len(lead)} values for {len(inputs)} samples; expected one, or one each")
        if not torch.compiler.is_compiling():
            slack = 4 * torch.finfo(lead.dtype).eps * self.max_lead_time
            least, most = float(lead.detach().amin()), float(lead.detach().amax())
            if not (-slack <= least and most <= self.max_lead_time + slack):
                raise InputError(
                    f"lead_time: from {least:g} to {most:g}; the operator knows times from 0 to {self.max_lead_time:g}"
                )
        return lead * (2 / self.max_lead_time) - 1

    def _lead_factor(self, lead: Float[Tensor, " lead"]) -> Float[Tensor, "lead 1 basis"]:
        return self.decoder.factor(lead, self.domain.dimension)[:, None]

    def _factors(self, lines: list[Tensor], *, keep: bool) -> list[Tensor]:
        if self.training:
            self._kept = None
        device = lines[0].device.type
        skip = self.training or torch.is_grad_enabled() or torch.compiler.is_compiling()
        weights = list(self.decoder.trunks.parameters())
        if not keep or skip or torch.is_autocast_enabled(device) or any(w.is_inference() for w in weights):
            return self.decoder.factors(lines)
        # The version counts every change in place; the address tells a weight that was put in another's stead.
        key = (*(len(line) for line in lines), *((w.data_ptr(), w._version, w.dtype) for w in weights))
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, self.decoder.factors(lines))
        return self._kept[1]


def _with_lead(points: Float[Tensor, "... axis"], lead: Float[Tensor, " lead"]) -> Float[Tensor, "... time"]:
    # The lead time as one more coordinate of every point; per sample where the lead times are.
    if len(lead) == 1:
        return torch.cat((points, lead.expand(*points.shape[:-1], 1)), -1)
    points = points.expand(len(lead), *points.shape[-2:])
    return torch.cat((points, lead[:, None, None].expand(*points.shape[:-1], 1)), -1)
