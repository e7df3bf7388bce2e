"""The latent spectral model on point clouds: through a Fourier transform to a grid, through the network, and back.

    ξ(x) = x + x ∘ g(x)                                          a learned map of the coordinates, x in the unit box
    û(k) = 1/N Σ_n (A [x_n, f_n]) e^{-2πi k·ξ_n}                 f_n: the features of point n
    v(y) = σ( Σ_k R_k û(k) e^{2πi k·y} + B y )                   on the points y of a grid
    w    = U(v)                                                  `latent_spectral_network.LatentSpectralNetwork`
    o(x) = project( Σ_k S_k ŵ(k) e^{2πi k·ξ(x)} + D x )

with ŵ the coefficients of w and R_k, S_k complex matrices.

Source: Wu, Hu, Luo, Wang, Long, "Solving High-Dimensional PDEs with Latent Spectral Models", ICML 2023, section 3;
the transforms between points and grid are those of Li et al., "Fourier Neural Operator with Learned Deformations for
PDEs on General Geometries", JMLR 2023.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from fieldwright.errors import InputError
from fieldwright.grids import Boundary
from fieldwright.operators.activations import activation as activation_by_name
from fieldwright.operators.coordinates import with_coordinates
from fieldwright.operators.inputs import check_counts
from fieldwright.operators.latent_spectral import check_network
from fieldwright.operators.latent_spectral_network import LatentSpectralNetwork
from fieldwright.operators.scattered_fourier import analyse_points, mix_modes, synthesise_points
from fieldwright.operators.store import StoredOperator
from fieldwright.operators.truncated_fourier import add_synthesis, analyse
from fieldwright.operators.walls import Walls, channels_innermost


class LatentSpectralPointOperator(nn.Module, StoredOperator):
    """LSM on scattered points of the unit box in 1D, 2D or 3D, any number of points, with features at each of them.

    ``in_channels``, ``out_channels``  features f of a point, 0 or more, and fields out
    ``grid``               points per axis of the latent grid (96); 2^(scales-1) or more
    ``modes``              wavenumbers per axis between points and grid (24), fewer than ``grid``
    ``deform``             learn the map ξ; else ξ(x) = x
    ``width``, ``scales``, ``widest``, ``patch`` (6), ``tokens``, ``bases``, ``heads``, ``projection``, ``norm``,
    ``align_corners``, ``activation``, ``recompute``, ``dimension``
                           as in `fieldwright.operators.latent_spectral.LatentSpectralOperator`

    The output does not depend on the order of the points. The sums over points and modes are made in the precision of
    the weights, under autocast too. Good values to start from are the defaults, with a learning rate of 5e-4.

    Errors: `InputError` for an argument or input that cannot be used, and for points outside the unit box.
    """

    bfloat16_pays = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        grid: int = 96,
        modes: int = 24,
        deform: bool = True,
        width: int = 32,
        scales: int = 5,
        widest: int = 8,
        patch: int | Sequence[int] = 6,
        tokens: int = 4,
        bases: int = 12,
        heads: int = 8,
        projection: int = 128,
        norm: str = "batch",
        align_corners: bool = False,
        activation: str = "relu",
        recompute: bool = False,
        dimension: int = 2,
    ) -> None:
        super().__init__()
        check_counts(out_channels=out_channels, projection=projection, grid=grid, modes=modes)
        if isinstance(in_channels, bool) or not isinstance(in_channels, int) or in_channels < 0:
            raise InputError(f"in_channels: {in_channels!r}; it must be a whole number, 0 for points without features")
        if dimension not in (1, 2, 3):
            raise InputError(f"dimension: {dimension}; allowed are 1, 2 and 3")
        check_network(width, dimension, patch, scales, widest, tokens, bases, heads, norm)
        if grid < 2 ** (scales - 1):
            raise InputError(f"grid: {grid}; {scales} scales take at least {2 ** (scales - 1)} points per axis")
        if modes >= grid:
            raise InputError(f"modes: {modes}; they must be fewer than the {grid} points of an axis of the grid")
        self.in_channels, self.dimension, self.grid = in_channels, dimension, grid
        self.modes = (modes,) * dimension
        kept = (modes,) * (dimension - 1) + (modes // 2 + 1,)
        self.coordinate_map = CoordinateMap(dimension) if deform else None
        self.lift = nn.Linear(dimension + in_channels, width)
        self.onto_grid = nn.Parameter(torch.randn(*kept, width, 2, width) / math.sqrt(2 * width))
        self.grid_places = nn.Linear(dimension, width)
        self.network = LatentSpectralNetwork(
            width,
            Walls.of(Boundary.parse("dirichlet", dimension)),
            (patch,) * dimension if isinstance(patch, int) else tuple(patch),
            scales=scales,
            widest=widest,
            tokens=tokens,
            bases=bases,
            heads=heads,
            norm=norm,
            align_corners=align_corners,
            activation=activation_by_name(activation),
            recompute=recompute,
        )
        self.onto_points = nn.Parameter(torch.randn(*kept, width, 2, width) / math.sqrt(2 * width))
        self.point_places = nn.Linear(dimension, width)
        self.hidden, self.head = nn.Linear(width, projection), nn.Linear(projection, out_channels)

    def forward(
        self,
        inputs: Float[Tensor, "batch point channel"],
        points: Float[Tensor, "batch point axis"],
        queries: Float[Tensor, "batch query axis"] | None = None,
    ) -> Float[Tensor, "batch place output"]:
        """The output fields at ``queries``, which are the points themselves unless given."""
        self._check(inputs, points)
        if queries is not None:
            self._check_points(queries, "queries")
        dtype = self.lift.weight.dtype
        v = self.lift(torch.cat((points, inputs), -1))
        # bfloat16 has too few digits for sums over points, and for phases.
        with torch.autocast(v.device.type, enabled=False):
            places = points.to(dtype)
            xi = self._deformed(places)
            spectrum = mix_modes(analyse_points(v.to(dtype), xi, self.modes), self.onto_grid)
            ys = with_coordinates(places.new_empty(1, 0, *(self.grid,) * self.dimension), "periodic")
            onto = self.grid_places(ys.movedim(1, -1)).movedim(-1, 1)
            onto = onto.expand(len(v), *onto.shape[1:])
            v = functional.gelu(add_synthesis(onto, spectrum, self.modes))
        v = self.network(channels_innermost(v))
        with torch.autocast(v.device.type, enabled=False):
            if queries is not None:
                places = queries.to(dtype)
                xi = self._deformed(places)
            spectrum = mix_modes(analyse(v.to(dtype).contiguous(), self.modes), self.onto_points)
            v = synthesise_points(spectrum, xi, self.modes) + self.point_places(places)
            return self.head(functional.gelu(self.hidden(v))).to(inputs.dtype)

    def _deformed(self, places: Float[Tensor, "batch point axis"]) -> Float[Tensor, "batch point axis"]:
        return places if self.coordinate_map is None else self.coordinate_map(places)

    def _check(self, inputs: Tensor, points: Tensor) -> None:
        if inputs.shape[2] != self.in_channels:
            raise InputError(f"inputs have {inputs.shape[2]} features a point; the operator takes {self.in_channels}")
        self._check_points(points, "points")

    def _check_points(self, points: Tensor, name: str) -> None:
        if points.shape[2] != self.dimension or not points.shape[1]:
            raise InputError(
                f"{name} of shape {tuple(points.shape)}; the operator takes (batch, point, {self.dimension}), a point"
                " or more"
            )
        # Looking at values would break a compiled or exported graph in two.
        if not torch.compiler.is_compiling() and not bool(((points >= 0) & (points <= 1)).all()):
            raise InputError(f"{name}: some lie outside the unit box; scale coordinates to 0..1")


class CoordinateMap(nn.Module):
    """ξ(x) = x + x ∘ g(x), g a perceptron on [M p, sin π2ʲp, cos π2ʲp], j = 0..7.

    p holds x, the distance from the middle of the box and, in 2D and 3D, the angle about it in the first two axes.
    """

    def __init__(self, dimension: int, *, hidden: int = 128, linear: int = 32, octaves: int = 8) -> None:
        super().__init__()
        places = dimension + (1 if dimension == 1 else 2)
        self.octaves = octaves
        self.linear = nn.Linear(places, linear)
        widths = [linear + 2 * octaves * places, hidden, hidden, hidden, hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.last = nn.Linear(hidden, dimension)

    def forward(self, x: Float[Tensor, "batch point axis"]) -> Float[Tensor, "batch point axis"]:
        # The middle itself has no angle and the distance no slope there, so both are about a point a little beside it.
        away = x - 0.5 + 1e-4
        places = [x, away.norm(dim=-1, keepdim=True)]
        if x.shape[-1] > 1:
            places.append(torch.atan2(away[..., 1:2], away[..., :1]))
        p = torch.cat(places, -1)
        octaves = math.pi * 2 ** torch.arange(self.octaves, device=x.device, dtype=x.dtype)
        phases = (p[..., None] * octaves).flatten(-2)
        g = torch.cat((self.linear(p), phases.sin(), phases.cos()), -1)
        for layer in self.layers:
            g = torch.tanh(layer(g))
        return x + x * self.last(g)
