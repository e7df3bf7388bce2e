"""Growth in width: more channels in every hidden layer.

    direct   channel j of the target copies channel π(j) = ⌊j n / N⌋; what reads it is split among the copies with gains
             α_j, Σ over copies = 1: W'_{ij} = α_j W_{π(i) π(j)}. The same function
    zero     W' = [[W, A], [0, C]] with A, C fresh: new channels hold zero at first. The same function
    random   W' = [[W, A], [B, C]] with A, B, C fresh

With direct growth gradients obey g(rows of copy j) = α_j g(row of its source) and g(columns of j) = g(column): so first
moments are m' = α m and m, second ones v' = α² v and v.

Sources: Du et al., "Stacking Your Transformers", NeurIPS 2024, appendix A; Chen, Goodfellow, Shlens, "Net2Net", ICLR
2016.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, get_args

from torch import nn

from fieldwright.errors import InputError
from fieldwright.growth.blocks import check_plain, constructor_settings, rebuilt
from fieldwright.growth.depth import noisy
from fieldwright.growth.plan import MOMENTS, Axis, Copy, Draw, GrowthPlan, Moments, StateRule, TensorMap
from fieldwright.operators.channels import ChannelMixing
from fieldwright.operators.convolution import Convolution, Prolongation
from fieldwright.operators.spectral import SpectralConvolution

How = Literal["direct", "zero", "random"]


@dataclass(frozen=True)
class Widen:
    """Give a model with a setting ``width`` more channels.

    ``width``    channels of the target
    ``how``      "direct", "zero" or "random"; none made pre-training of language models cheaper, see the paper
    ``uneven``   0 splits what is read evenly among copies, and they then stay copies for ever; 0.2 (default) splits
                 two of them 0.6 : 0.4. With norms over the channels the moments are exact for 0 alone
    ``noise``    α of W ← (1 - α) W + α ε; keeps the function no more
    ``moments``  of the optimizer: "clone" (by the rules above), "second-only" or "reset"

    Norms over the channels and heads of attention want a whole multiple of the source's width, and "direct".
    """

    width: int
    how: How = "direct"
    uneven: float = 0.2
    noise: float = 0.0
    moments: Moments = "clone"

    def plan(self, model: nn.Module, *, seed: int = 0) -> GrowthPlan:
        """Errors: `InputError` for a setting that does not fit the model."""
        check_plain(model)
        self._check(model)
        settings = {"width": self.width}
        fresh = rebuilt(model, settings, seed=seed)
        source = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        maps, states = {}, {}
        parameters = dict(fresh.named_parameters())
        for name, tensor in {**parameters, **dict(fresh.named_buffers())}.items():
            if name not in source or source[name].ndim != tensor.ndim:
                raise InputError(f"growth: '{name}' of {type(model).__name__} has no counterpart of another width")
            before, after = tuple(source[name].shape), tuple(tensor.shape)
            reads = reading_axis(fresh, name, tensor.ndim)
            value, gradient = self._maps(name, before, after, reads)
            maps[name] = noisy(value, self.noise, 1, ends_branch=False)
            if name in parameters:
                states[name] = StateRule(gradient, self.moments)
        return GrowthPlan(
            growth={"kind": type(self).__name__, **asdict(self)},
            settings=settings,
            parameters={name: one for name, one in maps.items() if name in parameters},
            buffers={name: one for name, one in maps.items() if name not in parameters},
            states=states,
            preserves="exact" if self.how != "random" and not self.noise else "none",
            seed=seed,
        )

    def _maps(
        self, name: str, before: tuple[int, ...], after: tuple[int, ...], reads: int | None
    ) -> tuple[TensorMap, TensorMap]:
        """The map of the values, and that of the gradients."""
        changed = [axis for axis, (n, wide) in enumerate(zip(before, after, strict=True)) if n != wide]
        if self.how == "direct":
            values = {
                axis: copied(before[axis], after[axis], self.uneven if axis == reads else None) for axis in changed
            }
            slopes = {
                axis: copied(before[axis], after[axis], None if axis == reads else self.uneven) for axis in changed
            }
            return TensorMap(after, (Copy(name, axes=values),)), TensorMap(after, (Copy(name, axes=slopes),))
        kept = {axis: Axis((*range(before[axis]), *[-1] * (after[axis] - before[axis]))) for axis in changed}
        copy = Copy(name, axes=kept)
        draws: list[Draw] = []
        whole = tuple((0, wide) for wide in after)
        if reads in changed:
            draws.append(Draw("built", 1.0, _box(whole, {reads: (before[reads], after[reads])})))  # type: ignore[index]
        for axis in changed:
            # Factors of a channel that holds zero (gates, scales of norms) are as built, shifts are zero.
            factor = reads is None and not name.endswith("bias")
            if axis != reads and (self.how == "random" or factor):
                old = {reads: (0, before[reads])} if reads is not None else {}
                draws.append(Draw("built", 1.0, _box(whole, {**old, axis: (before[axis], after[axis])})))
        return TensorMap(after, (copy, *draws)), TensorMap(after, (copy,))

    def _check(self, model: nn.Module) -> None:
        if self.how not in get_args(How):
            raise InputError(f"growth: how '{self.how}'; allowed are {', '.join(get_args(How))}")
        if self.moments not in MOMENTS:
            raise InputError(f"growth: moments '{self.moments}'; allowed are {', '.join(MOMENTS)}")
        if not 0 <= self.uneven < 1 or not 0 <= self.noise <= 1:
            raise InputError(f"growth: uneven {self.uneven}, noise {self.noise}; both must lie in [0, 1)")
        width = constructor_settings(model).get("width", getattr(getattr(model, "shape", None), "width", None))
        if not isinstance(width, int):
            raise InputError(f"growth: {type(model).__name__} has no setting 'width' that can grow")
        if isinstance(self.width, bool) or not isinstance(self.width, int) or self.width <= width:
            raise InputError(f"growth: width {self.width}; it must be a whole number above the {width} that there are")


def copied(before: int, after: int, uneven: float | None) -> Axis:
    """The map π(j) = ⌊j n / N⌋ of channels, with gains α_j of unequal sizes where they are split.

    ``uneven``  None: copies as they are; else the copies of a channel have gains 1/m (1 + uneven (1 - 2 r/(m - 1))), r
                their place among the m of them
    """
    index = tuple(j * before // after for j in range(after))
    if uneven is None:
        return Axis(index)
    gains = []
    for j, place in enumerate(index):
        many, rank = index.count(place), j - index.index(place)
        gains.append((1 + uneven * (1 - 2 * rank / (many - 1))) / many if many > 1 else 1.0)
    return Axis(index, tuple(gains))


def reading_axis(model: nn.Module, name: str, rank: int) -> int | None:
    """The axis of a tensor that reads channels, where it has one beside the axis that writes them."""
    path, _, leaf = name.rpartition(".")
    owner = model.get_submodule(path)
    if leaf != "weight" or rank < 2 or getattr(owner, "groups", 1) != 1:
        return None
    if isinstance(owner, SpectralConvolution):
        return rank - 3
    if isinstance(owner, (Prolongation, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        return 0
    if isinstance(owner, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, ChannelMixing, Convolution)):
        return 1
    return None


def _box(
    whole: tuple[tuple[int, int], ...], parts: dict[int | None, tuple[int, int]] | dict[int, tuple[int, int]]
) -> tuple[tuple[int, int], ...]:
    return tuple(parts.get(axis, span) for axis, span in enumerate(whole))  # type: ignore[call-overload]
