"""The latent spectral model (LSM): a U-shaped network, each scale of which passes through a series in a latent space.

    v = lift(x, coordinates),        y = project(U(v)),

lift is linear and project a perceptron on the channels of each point; U is
`fieldwright.operators.latent_spectral_network.LatentSpectralNetwork`.

Source: Wu, Hu, Luo, Wang, Long, "Solving High-Dimensional PDEs with Latent Spectral Models", ICML 2023. Left out of its
released models are parts without effect: a linear map between U and project, which is linear first, the coefficient of
sin 0 and the bias of the keys.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from fieldwright.errors import InputError
from fieldwright.grids import CENTRINGS, Boundary
from fieldwright.operators.activations import activation as activation_by_name
from fieldwright.operators.coordinates import with_coordinates
from fieldwright.operators.inputs import check_counts, check_inputs
from fieldwright.operators.latent_spectral_network import NORMS, LatentSpectralNetwork
from fieldwright.operators.store import StoredOperator
from fieldwright.operators.walls import Walls, channels_innermost


class LatentSpectralOperator(nn.Module, StoredOperator):
    """LSM in 1D, 2D or 3D: fields in, fields out, on grids of any size that has a point per axis on the coarsest scale.

    ``in_channels``, ``out_channels``  fields in and out
    ``width``              channels C of the finest scale (32); the heads divide it
    ``scales``             scales K (5); the grid needs 2^(K-1) points per axis or more
    ``widest``             channels of the coarse scales, at most this multiple of ``width`` (8)
    ``patch``              points of a patch per axis (4), a number or one per axis, the same on every scale
    ``tokens``             latent tokens M of a patch (4)
    ``bases``              bases N of the trigonometric series (12), 2 or more
    ``heads``              heads of the attention (8)
    ``depth``              spectral blocks on each scale, one after the other (1)
    ``blended``            each spectral block's change of the field times a learned factor that starts at 1; blocks
                           that growth adds start at 0
    ``projection``         hidden width of the last perceptron (128)
    ``norm``               "batch" as published (default), whose running statistics lag behind the weights early in
                           training, or "group": each sample by itself, for batches of one; on Darcy flow at 32 x 32
                           the batch learned faster (3.4 against 9.1 % after 300 steps of 4 samples)
    ``coordinates``        append the coordinates of the points, in 0..1, to the inputs
    ``align_corners``      interpolate between scales from outermost point to outermost point, as published, instead of
                           between the centres of cells, which knows periodic axes and keeps shifts by coarse cells
    ``dimension``          1, 2 or 3
    ``boundary``           what convolutions see beyond the walls: a word for all sides or a [low, high] pair of words
                           per axis, of "dirichlet" (zeros, as published), "neumann", "periodic"
    ``centring``           "cell", "node" or "periodic": where walls and coordinates lie
    ``activation``         "relu" (as published), "gelu", "silu", "tanh" or "identity"
    ``recompute``          keep no features of the inner parts for the backward pass but compute them again: less memory
                           for about a third more time
    ``members``            operators that this one is merged from (1): channels of each are normalised apart

    Sizes. Nothing is padded to a multiple of anything. An axis of n points has ⌈n/2⌉ on the next scale, and the last
    patch of an axis that the patch does not divide works on the points it has: its tokens attend to no others. A
    periodic axis commutes with shifts by patch · 2^(K-1) points where n is a multiple of that; on any other size the
    coarse scales have a seam.

    The patch counts points: on another resolution than the trained one the operator runs, but is another operator. So
    it is ``grid_bound``: a surrogate brings its inputs to the trained grid. Good values to start from are the defaults,
    ``patch`` being a sixteenth of the grid, with a learning rate of 1e-3.

    Errors: `InputError` for an argument or input that cannot be used.
    """

    grid_bound = True
    channel_settings = ("width", "heads", "projection", "members")
    bfloat16_pays = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 32,
        scales: int = 5,
        widest: int = 8,
        patch: int | Sequence[int] = 4,
        tokens: int = 4,
        bases: int = 12,
        heads: int = 8,
        depth: int = 1,
        blended: bool = False,
        projection: int = 128,
        norm: str = "batch",
        coordinates: bool = True,
        align_corners: bool = False,
        dimension: int = 2,
        boundary: str | Sequence[str | Sequence[str]] = "dirichlet",
        centring: str = "cell",
        activation: str = "relu",
        recompute: bool = False,
        members: int = 1,
    ) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, out_channels=out_channels, projection=projection)
        check_counts(depth=depth, members=members)
        if width % members:
            raise InputError(f"members: {members}; it must divide the width {width}")
        if dimension not in (1, 2, 3):
            raise InputError(f"dimension: {dimension}; allowed are 1, 2 and 3")
        if centring not in CENTRINGS:
            raise InputError(f"centring: '{centring}'; allowed are {', '.join(CENTRINGS)}")
        self.in_channels, self.dimension, self.centring = in_channels, dimension, centring
        self.coordinates, self.scales = coordinates, scales
        walls = Walls.of(Boundary.parse(boundary, dimension), centring=centring)  # type: ignore[arg-type]
        features = in_channels + (dimension if coordinates else 0)
        check_network(width, dimension, patch, scales, widest, tokens, bases, heads, norm)
        self.lift = nn.Linear(features, width)
        self.network = LatentSpectralNetwork(
            width,
            walls,
            (patch,) * dimension if isinstance(patch, int) else tuple(patch),
            scales=scales,
            widest=widest,
            tokens=tokens,
            bases=bases,
            heads=heads,
            depth=depth,
            blended=blended,
            norm=norm,
            align_corners=align_corners,
            activation=activation_by_name(activation),
            recompute=recompute,
            members=members,
        )
        self.hidden, self.head = nn.Linear(width, projection), nn.Linear(projection, out_channels)

    def forward(
        self, inputs: Float[Tensor, "batch channel *space"], lead_time: Tensor | float | None = None
    ) -> Float[Tensor, "batch output *space"]:
        """The output fields on the grid of the inputs; ``lead_time`` must be None (the operator is a steady one)."""
        check_inputs(inputs, self.in_channels, self.dimension, lead_time)
        least, shortest = 2 ** (self.scales - 1), min(inputs.shape[2:])
        if shortest < least:
            raise InputError(
                f"inputs on a grid of {' x '.join(map(str, inputs.shape[2:]))} points; {self.scales} scales take at"
                f" least {least} per axis; build the operator with scales={shortest.bit_length()} or fewer for it"
            )
        v = with_coordinates(inputs, self.centring) if self.coordinates else inputs
        v = self.network(channels_innermost(self.lift(v.movedim(1, -1)).movedim(-1, 1))).movedim(1, -1)
        v = functional.gelu(self.hidden(v))
        # Rounding each point of the output to bfloat16 would be noise of the grid's wavelength.
        with torch.autocast(v.device.type, enabled=False):
            outputs = self.head(v.to(self.head.weight.dtype))
        return outputs.movedim(-1, 1).to(inputs.dtype).contiguous()


def check_network(
    width: int,
    dimension: int,
    patch: int | Sequence[int],
    scales: int,
    widest: int,
    tokens: int,
    bases: int,
    heads: int,
    norm: str,
) -> None:
    """Errors: `InputError` naming the first setting that `LatentSpectralNetwork` cannot be built with."""
    check_counts(width=width, scales=scales, widest=widest, tokens=tokens, bases=bases, heads=heads)
    sizes = (patch,) * dimension if isinstance(patch, int) else tuple(patch)
    if len(sizes) != dimension or any(isinstance(p, bool) or not isinstance(p, int) or p < 1 for p in sizes):
        raise InputError(f"patch: {patch}; expected a positive integer, or one for each of the {dimension} axes")
    if bases < 2:
        raise InputError(f"bases: {bases}; a series has 2 bases or more")
    if width % heads:
        raise InputError(f"width: {width}; it must be a multiple of the {heads} heads, {width + -width % heads} say")
    if norm not in NORMS:
        raise InputError(f"norm: '{norm}'; allowed are {', '.join(NORMS)}")
