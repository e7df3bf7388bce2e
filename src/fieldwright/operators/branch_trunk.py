"""Branch and trunk: fields at any point, as products of functions of the point and functions of the input.

    t_0 = σ(W x + c),  t_k = σ(W_k t_{k-1} + c_k);      b_0 = σ(V β + d),  b_k = σ(V_k b_{k-1} + d_k),   k < L,
    u_c(x; β) = (1/l) Σ_{k among the last l} w_kc ⟨ t_k(x), b_kc(β) ⟩ + o_c.

Only the trunk t sees the point x and only the branch b sees the latent β. So with the basis T = (t_k(x))_k of all
points and the coefficients C = (w_kc b_kc(β) / l)_k of all samples, u = C Tᵀ + o is one matrix product: no branch is
copied per point, and no trunk is evaluated per sample where all share their points. On a tensor grid a separable trunk
is an outer product, which is contracted axis by axis and never made.

Several fields: "split" gives each field a share b_kc of a branch that is as many times wider; "tokens" runs the branch
on each component of β by itself and mixes the products, u_c = Σ_d O_cd (1/l) Σ_k ⟨t_k, b_kd⟩ + o_c, which is computed
with the mixing first. A separable trunk is a product over the axes, t_k(x) = Π_i t_k^i(x_i): on a tensor grid it costs
a network evaluation per point of each axis only.

Sources: Lu et al., "Learning nonlinear operators via DeepONet", Nature Machine Intelligence 2021 (l = 1); Zang and
Koutsourelakis, "DGNO", J. Comput. Phys. 538 (2025) 114137 (MultiONet, tokens); Yu et al., "Separable DeepONet",
CMAME 2025. The published weights w start at 0, which leaves every layer without a gradient in the first step; here they
start at 1, where DeepONet is the plain product of its branch and trunk.
"""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fieldwright.errors import InputError
from fieldwright.operators.activations import Activation
from fieldwright.operators.activations import activation as activation_by_name
from fieldwright.operators.inputs import check_counts

OutputKind = Literal["split", "tokens"]


class BranchTrunk(nn.Module):
    """The decoder u(x; β) above: coefficients of latents, a basis of points, and their product.

    ``latent``, ``out_channels``  components of β; fields
    ``periodic``    for each coordinate of a point, scaled to -1..1, whether the fields repeat along it
    ``width``       features h of a layer
    ``layers``      layers L of trunk and of branch
    ``combined``    layers l that are summed, the last ones; 1 is DeepONet
    ``outputs``     "split" or "tokens"
    ``separable``   a trunk per coordinate
    ``waves``       waves K appended to a coordinate s: cos(πk(s+1)/2) for k = 1..K. A periodic coordinate enters as
                    cos(πks), sin(πks) for k = 1..max(K, 1) alone, so the fields are periodic exactly
    ``activation``  σ by name
    ``recompute``   save memory in training: compute what σ of the trunk keeps again in the backward pass
    ``members``     equal shares of the features with factors w of their own, of networks merged into one

    Errors: `InputError` for an argument that cannot be used.
    """

    def __init__(
        self,
        latent: int,
        out_channels: int,
        *,
        periodic: Sequence[bool],
        width: int,
        layers: int,
        combined: int,
        outputs: str,
        separable: bool,
        waves: int,
        activation: str,
        recompute: bool = False,
        members: int = 1,
    ) -> None:
        super().__init__()
        check_counts(latent=latent, out_channels=out_channels, width=width, layers=layers, combined=combined)
        check_counts(members=members)
        if width % members or (members > 1 and outputs != "split"):
            raise InputError(f"members: {members}; they divide the width {width} where outputs are split, not else")
        if combined > layers:
            raise InputError(f"combined: {combined}; there are {layers} layers to combine")
        if outputs not in get_args(OutputKind):
            raise InputError(f"outputs: '{outputs}'; allowed are {', '.join(get_args(OutputKind))}")
        if isinstance(waves, bool) or not isinstance(waves, int) or waves < 0:
            raise InputError(f"waves: {waves!r}; it must be an integer that is not negative")
        self.periodic, self.waves = tuple(periodic), waves
        self.out_channels, self.combined, self.width, self.members = out_channels, combined, width, members
        self.tokens, self.separable = outputs == "tokens", separable
        sigma = activation_by_name(activation)
        features = [2 * max(waves, 1) if wraps else 1 + waves for wraps in self.periodic]
        inner = features if separable else [sum(features)]
        self.trunks = nn.ModuleList(_Layers(n, width, layers, combined, sigma, recompute=recompute) for n in inner)
        if self.tokens:
            self.branch = _Layers(1, width, layers, combined, sigma)
            self.mix = nn.Linear(latent, out_channels)
        else:
            self.branch = _Layers(latent, out_channels * width, layers, combined, sigma)
            self.weights = nn.Parameter(torch.ones(combined, members * out_channels))
            self.bias = nn.Parameter(torch.zeros(out_channels))

    def coefficients(self, latent: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch output basis"]:
        """C: what the branch gives for each field, layer after layer."""
        if self.tokens:
            layers = [self.mix.weight.to(b.dtype) @ b for b in self.branch(latent[..., None])]
            return torch.cat(layers, -1) / self.combined
        layers = torch.stack([b.unflatten(-1, (self.out_channels, -1)) for b in self.branch(latent)], 2)
        if self.members == 1:
            factor = self.weights.T[..., None]
        else:  # (layer, member, output) -> (output, layer, feature)
            shares = self.weights.unflatten(1, (self.members, -1)).permute(2, 0, 1)
            factor = shares.repeat_interleave(self.width // self.members, -1)
        return (layers * (factor / self.combined).to(layers.dtype)).flatten(2)

    def channel_parts(self) -> dict[tuple[str, int], tuple[int, ...]]:
        """The branch's features of each output, one output after the other."""
        if self.tokens:
            return {}
        sizes = (self.width,) * self.out_channels
        inner = {(f"branch.maps.{i}.weight", 1): sizes for i in range(1, len(self.branch.maps))}
        outer = {
            (f"branch.maps.{i}.{name}", 0): sizes for i in range(len(self.branch.maps)) for name in ("weight", "bias")
        }
        return inner | outer

    def basis(self, points: Float[Tensor, "*points axis"]) -> Float[Tensor, "*points basis"]:
        """T: what the trunk gives at each point; coordinates in -1..1. A separable trunk takes the first few too."""
        lines = points.unbind(-1)
        if not self.separable:
            features = [self._features(line, axis) for axis, line in enumerate(lines)]
            return torch.cat(self.trunks[0](torch.cat(features, -1)), -1)
        product = self.factor(lines[0], 0)
        for axis, line in enumerate(lines[1:], 1):
            product = product * self.factor(line, axis)
        return product

    def factor(self, line: Float[Tensor, "*any"], axis: int) -> Float[Tensor, "*any basis"]:
        """What the trunk of one coordinate gives, of a separable trunk."""
        return torch.cat(self.trunks[axis](self._features(line, axis)), -1)

    def factors(self, lines: Sequence[Float[Tensor, "_"]]) -> list[Float[Tensor, "_ basis"]]:
        """T on the tensor grid of these lines, as arrays whose outer product it is: one per line, or the one."""
        if self.separable:
            return [self.factor(line, axis) for axis, line in enumerate(lines)]
        return [self.basis(torch.stack([x.flatten() for x in torch.meshgrid(*lines, indexing="ij")], -1))]

    def contract(
        self, coefficients: Float[Tensor, "batch output basis"], factors: Sequence[Float[Tensor, "_ basis"]]
    ) -> Float[Tensor, "batch output *line"]:
        """C Tᵀ + o for the outer product T of the factors, of which T itself is never made.

        Never in bfloat16 by autocast: a field rounded to 8 bits point by point is noise of the grid's wavelength.
        """
        offset = self.mix.bias if self.tokens else self.bias
        with torch.autocast(coefficients.device.type, enabled=False):
            rows = coefficients.to(offset.dtype)
            for factor in factors[:-1]:
                rows = rows[..., None, :] * factor.to(offset.dtype)
            fields = (rows.flatten(0, -2) @ factors[-1].to(offset.dtype).T).unflatten(0, rows.shape[:-1])
            return fields + offset.view(-1, *(1,) * len(factors))

    def contract_each(
        self, coefficients: Float[Tensor, "batch output basis"], basis: Float[Tensor, "batch point basis"]
    ) -> Float[Tensor, "batch output point"]:
        """C Tᵀ + o where each sample has points, and so a T, of its own."""
        offset = self.mix.bias if self.tokens else self.bias
        with torch.autocast(coefficients.device.type, enabled=False):
            return torch.baddbmm(offset[:, None], coefficients.to(offset.dtype), basis.to(offset.dtype).mT)

    def _features(self, line: Float[Tensor, "*any"], axis: int) -> Float[Tensor, "*any feature"]:
        if not self.periodic[axis] and not self.waves:
            return line[..., None]
        k = torch.arange(1, max(self.waves, 1) + 1, device=line.device, dtype=line.dtype)
        if self.periodic[axis]:
            angle = math.pi * k * line[..., None]
            return torch.cat((angle.cos(), angle.sin()), -1)
        return torch.cat((line[..., None], torch.cos(math.pi / 2 * k * (line[..., None] + 1))), -1)


class _Layers(nn.Module):
    # A perceptron that gives what its last ``kept`` layers give.
    def __init__(
        self, inner: int, width: int, layers: int, kept: int, activation: Activation, *, recompute: bool = False
    ) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(width if layer else inner, width) for layer in range(layers))
        self.kept, self.activation, self.recompute = kept, activation, recompute

    def forward(self, v: Float[Tensor, "*any inner"]) -> list[Float[Tensor, "*any width"]]:
        seen = []
        for layer in self.maps:
            v = layer(v)
            if self.recompute and torch.is_grad_enabled():
                v = checkpoint(self.activation, v, use_reentrant=False)  # type: ignore[assignment]
            else:
                v = self.activation(v)
            seen.append(v)
        return seen[-self.kept :]
