"""Ghost batch normalisation: a large batch normalised as the small batches that it is made of.

A batch of B samples is split into n = ⌊B / size⌋ ghosts; with μ_l, σ²_l of ghost l alone and one gain γ and bias β,

    y = γ (x - μ_l) / √(σ²_l + ε) + β        for the samples x of ghost l = 1..n.

Evaluation uses running statistics, as batch normalisation does. They are what n batches one after another would have
left, in closed form with momentum ρ:

    μ ← (1 - ρ)ⁿ μ + ρ Σ_l (1 - ρ)^(n-l) μ_l,        the same for σ² (unbiased).

Sample i belongs to ghost i mod n. So a contiguous batch ``(B, C, …)`` *is*, without a copy, one of shape
``(B/n, n C, …)`` whose channels are normalised each by itself: ghosts cost what plain batch normalisation costs. This
takes batches in random order: neighbours in time must not stand next to each other.

When ``size`` does not divide B, the ghosts' sizes differ by at most one, none is smaller than ``size``, and the batch
is normalised in two parts; a batch of less than two sizes is one ghost. Processes have ghosts of their own.

Source: Hoffer, Hubara, Soudry, "Train longer, generalize better", NeurIPS 2017 (algorithm 1), whose printed weights of
the running statistics do not sum to one; those above do, and they are what its published code computes.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fieldwright.errors import InputError
from fieldwright.training.carried import Carried, Preparation


class GhostBatchNorm(_BatchNorm):
    """Batch normalisation by ghosts of about ``size`` samples, of fields in any number of dimensions.

    All other arguments, parameters, buffers and the state dictionary are those of `torch.nn.BatchNorm2d`;
    ``num_batches_tracked`` counts ghosts. With ``momentum=None`` the running statistics are plain means over all ghosts
    seen, and without running statistics evaluation uses those of the whole batch.

    Errors: `InputError` for a ``size`` below two, or a ghost of one value, whose variance is zero.
    """

    axes: ClassVar[tuple[int, ...]] = ()
    """Allowed numbers of axes of the input; empty for two or more."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        size: int = 32,
    ) -> None:
        if size < 2:
            raise InputError(f"ghost batch normalisation: size {size}; a ghost has at least two samples")
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype)
        self.size = size

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2 or (self.axes and input.ndim not in self.axes):
            wanted = " or ".join(map(str, self.axes)) or "at least 2"
            raise InputError(
                f"{type(self).__name__}: an input of shape {tuple(input.shape)}; {wanted} axes are needed, (batch,"
                " channel, *space)"
            )

    def forward(self, input: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        self._check_input_dim(input)
        if not self.training:
            whole = self.running_mean is None
            return nn.functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, whole, 0.0, self.eps
            )
        batch = input.shape[0]
        ghosts = max(batch // self.size, 1)
        larger = batch % ghosts
        if larger == 0:
            output, mean, variance = self._normalised(input, ghosts)
        else:
            split = larger * (batch // ghosts + 1)
            first, first_mean, first_variance = self._normalised(input[:split], larger)
            rest, rest_mean, rest_variance = self._normalised(input[split:], ghosts - larger)
            output = torch.cat((first, rest))
            mean, variance = torch.cat((first_mean, rest_mean)), torch.cat((first_variance, rest_variance))
        self._track(mean, variance)
        return output

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, size={self.size}"

    def _normalised(self, input: Tensor, ghosts: int) -> tuple[Tensor, Tensor, Tensor]:
        """The batch normalised by so many equal ghosts, with the ghosts' means and unbiased variances."""
        members = input.shape[0] // ghosts
        if members * input[0, 0].numel() < 2:
            raise InputError(
                f"{type(self).__name__}: one value a channel in a ghost of {tuple(input.shape)}; its variance is zero,"
                " and at least two are needed"
            )
        folded = input.reshape(members, ghosts * input.shape[1], *input.shape[2:])
        dtype = torch.promote_types(input.dtype, torch.float32)  # half precision is summed in single
        mean, variance = torch.zeros(2, folded.shape[1], dtype=dtype, device=input.device).unbind()
        gain, bias = (None if p is None else p.repeat(ghosts) for p in (self.weight, self.bias))
        # With momentum 1 the buffers come back as the statistics of the ghosts themselves.
        output = nn.functional.batch_norm(folded, mean, variance, gain, bias, True, 1.0, self.eps)
        return output.reshape(input.shape), mean.reshape(ghosts, -1), variance.reshape(ghosts, -1)

    @torch.no_grad()
    def _track(self, mean: Float[Tensor, "ghost channel"], variance: Float[Tensor, "ghost channel"]) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        ghosts = mean.shape[0]
        self.num_batches_tracked.add_(ghosts)
        if self.momentum is None:
            weights = (1.0 / self.num_batches_tracked).to(mean.dtype).expand(ghosts)
            kept = 1.0 - ghosts / self.num_batches_tracked
        else:
            later = torch.arange(ghosts - 1, -1, -1, device=mean.device, dtype=mean.dtype)
            weights = self.momentum * (1.0 - self.momentum) ** later
            kept = (1.0 - self.momentum) ** ghosts
        for running, found in ((self.running_mean, mean), (self.running_var, variance)):
            running.mul_(kept).add_((weights @ found).to(running.dtype))


class GhostBatchNorm1d(GhostBatchNorm):
    """`GhostBatchNorm` of ``(batch, channel)`` or ``(batch, channel, x)``."""

    axes = (2, 3)


class GhostBatchNorm2d(GhostBatchNorm):
    """`GhostBatchNorm` of ``(batch, channel, x, y)``."""

    axes = (4,)


class GhostBatchNorm3d(GhostBatchNorm):
    """`GhostBatchNorm` of ``(batch, channel, x, y, z)``."""

    axes = (5,)


GHOSTS: dict[type[_BatchNorm], type[GhostBatchNorm]] = {
    nn.BatchNorm1d: GhostBatchNorm1d,
    nn.BatchNorm2d: GhostBatchNorm2d,
    nn.BatchNorm3d: GhostBatchNorm3d,
    nn.SyncBatchNorm: GhostBatchNorm,
}


def with_ghost_norm(module: nn.Module, size: int) -> nn.Module:
    """Replace every batch normalisation within a module by ghosts of ``size``; the module itself is returned.

    Parameters and buffers are handed over, not copied: names, the state dictionary and an optimizer's hold on the
    parameters stay. Ghost layers get the new size.

    Errors: `InputError` where there is no batch normalisation, or one of a class of somebody's own.
    """

    def ghost(layer: _BatchNorm) -> _BatchNorm:
        if isinstance(layer, GhostBatchNorm):
            return _handed_over(layer, type(layer), {"size": size})
        if type(layer) not in GHOSTS:
            raise InputError(
                f"ghost batch normalisation: a layer of class {type(layer).__name__} is not known; those known are"
                f" {', '.join(known.__name__ for known in GHOSTS)}"
            )
        return _handed_over(layer, GHOSTS[type(layer)], {"size": size})

    found = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    if not found:
        raise InputError("ghost batch normalisation: no BatchNorm found in the operator; there is nothing to replace")
    return _exchanged(module, {layer: ghost(layer) for layer in found})


def with_batch_norm(module: nn.Module) -> nn.Module:
    """The inverse of `with_ghost_norm`; `GhostBatchNorm` of any dimension becomes `torch.nn.SyncBatchNorm`.

    Errors: `InputError` where there is no ghost batch normalisation.
    """
    plain = {ghost: known for known, ghost in GHOSTS.items()}
    found = [layer for layer in module.modules() if isinstance(layer, GhostBatchNorm)]
    if not found:
        raise InputError("batch normalisation: no GhostBatchNorm found in the operator; there is nothing to replace")
    return _exchanged(module, {layer: _handed_over(layer, plain[type(layer)], {}) for layer in found})


def _handed_over(layer: _BatchNorm, kind: type[_BatchNorm], settings: dict[str, Any]) -> _BatchNorm:
    """A layer of another class with the same parameters and buffers."""
    made = kind(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats, **settings)
    made.weight, made.bias = layer.weight, layer.bias
    made.running_mean, made.running_var = layer.running_mean, layer.running_var
    made.num_batches_tracked = layer.num_batches_tracked
    return made.train(layer.training)


def _exchanged(module: nn.Module, replacements: dict[nn.Module, nn.Module]) -> nn.Module:
    """The module with some layers replaced wherever they stand, also where one stands in several places."""
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):  # named_children leaves out what it has named
            if child in replacements:
                setattr(parent, name, replacements[child])
    return replacements.get(module, module)


class GhostNorm(Preparation):
    """Train the phase with ghosts of ``size`` samples in the place of batch normalisation, by `with_ghost_norm`.

    The optimizer starts afresh. Weights and statistics keep their names, so what is trained loads into the operator as
    it was, and predicts the same.
    """

    kind: Literal["ghost-norm"] = "ghost-norm"
    size: Annotated[int, Field(ge=2)] = 32

    def __call__(self, carried: Carried) -> Carried:
        return Carried(with_ghost_norm(carried.operator, self.size))
