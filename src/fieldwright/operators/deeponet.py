"""Branch-trunk operators: DeepONet, and MultiONet which sums over several layers instead of the last one alone.

    β = branch(input),        u_c(x) = (1/l) Σ_{k among the last l of L layers} w_kc ⟨ t_k(x), b_kc(β) ⟩ + o_c

DeepONet is l = 1, see `fieldwright.operators.branch_trunk`. The fields can be asked for on the grid of the inputs and
at any other points, where they are smooth functions of the point with exact derivatives. On a periodic axis they are
periodic exactly.

| argument         | meaning |
| ---------------- | ------- |
| ``in_channels``, ``out_channels`` | fields in and out |
| ``branch``       | "mlp" on the values at sensors, "convolution" on the same, "fourier" on the lowest modes of the input |
| ``sensors``      | points per axis of the grid to which "mlp" and "convolution" bring inputs of any other grid (32): by means over cells where there are cells, else by interpolation |
| ``modes``        | waves per axis that "fourier" reads (12) |
| ``branch_width`` | hidden width of the branch (256) |
| ``latent``       | components of β (128) |
| ``width``        | features h of a layer of trunk and branch (100) |
| ``layers``       | layers L of trunk and branch (5) |
| ``combined``     | layers l that MultiONet sums (4) |
| ``outputs``      | "split" or "tokens": how several fields share the branch |
| ``separable``    | a trunk per axis, whose features are multiplied: less general, and on grids as cheap as its axes |
| ``waves``        | Fourier features of a coordinate in the trunk (0), for fields with fine structure |
| ``max_lead_time`` | the largest lead time, where fields are asked for at a time; None for a steady operator |
| ``vanish_at_walls`` | multiply the outputs by the distance to the Dirichlet walls; for outputs that are normalised by a scale and not shifted |
| ``lower``, ``upper`` | corners of the box in which points lie; by default the unit box |
| ``dimension``    | 1, 2 or 3 |
| ``boundary``     | a word for all sides or a [low, high] pair of words per axis: "dirichlet", "neumann", "periodic" |
| ``centring``     | "cell", "node" or "periodic": where the points of a grid lie |
| ``recompute``    | save memory in training: compute inner values of the trunk again in the backward pass |
| ``members``      | operators that this one is merged from (1): features of each have factors w of their own; with "split" outputs |
| ``activation``   | of trunk and branch layers: "tanh_sine", tanh(sin(π(x+1))) + x, or any other by name |

Good values to start from are the defaults, with a learning rate of 1e-3. Every call raises `InputError` for fields,
points or a lead time that cannot be used.
"""  # noqa: E501 (a table)

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from fieldwright.operators.branch_trunk import BranchTrunk
from fieldwright.operators.decoded_fields import DecodedFields
from fieldwright.operators.domain import Domain
from fieldwright.operators.encoders import Encoder
from fieldwright.operators.inputs import check_counts, check_inputs
from fieldwright.operators.store import StoredOperator


class MultiONet(nn.Module, StoredOperator):
    """MultiONet in 1D, 2D or 3D: fields in, fields out at any points, by the last layers of branch and trunk.

    Settings and errors as in the table of this module. It has as many weights as DeepONet, but for a few scalars. On
    regular grids with many labelled samples an FNO is more accurate than both.

    Source: Zang and Koutsourelakis, "DGNO", J. Comput. Phys. 2025.
    """

    channel_settings = ("branch_width", "latent", "width", "members")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        branch: str = "mlp",
        sensors: int | Sequence[int] = 32,
        modes: int | Sequence[int] = 12,
        branch_width: int = 256,
        latent: int = 128,
        width: int = 100,
        layers: int = 5,
        combined: int = 4,
        outputs: str = "split",
        separable: bool = False,
        waves: int = 0,
        max_lead_time: float | None = None,
        vanish_at_walls: bool = False,
        lower: Sequence[float] | None = None,
        upper: Sequence[float] | None = None,
        dimension: int = 2,
        boundary: str | Sequence[str | Sequence[str]] = "dirichlet",
        centring: str = "cell",
        activation: str = "tanh_sine",
        recompute: bool = False,
        members: int = 1,
    ) -> None:
        super().__init__()
        check_counts(in_channels=in_channels)
        self.in_channels, self.dimension = in_channels, dimension
        domain = Domain.parse(dimension, boundary, centring, lower, upper)
        size = modes if branch == "fourier" else sensors
        encoder = Encoder(branch, in_channels, latent, domain, size=size, width=branch_width)
        decoder = BranchTrunk(
            latent,
            out_channels,
            periodic=(*domain.boundary.periodic, *(() if max_lead_time is None else (False,))),
            width=width,
            layers=layers,
            combined=combined,
            outputs=outputs,
            separable=separable,
            waves=waves,
            activation=activation,
            recompute=recompute,
            members=members,
        )
        self.fields = DecodedFields(encoder, decoder, max_lead_time=max_lead_time, vanish=vanish_at_walls)

    def forward(
        self, inputs: Float[Tensor, "batch channel *space"], lead_time: Tensor | float | None = None
    ) -> Float[Tensor, "batch output *space"]:
        """The output fields on the grid of the inputs, at one lead time or at one per sample."""
        check_inputs(inputs, self.in_channels, self.dimension, None)
        return self.fields(inputs, lead_time)

    def at(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        points: Float[Tensor, "*some point axis"],
        lead_time: Tensor | float | None = None,
        *,
        check: bool = True,
    ) -> Float[Tensor, "batch point output"]:
        """The output fields at points (point, axis) of all samples, or (batch, point, axis) of each sample's own.

        ``check=False`` leaves out the look whether the points lie in the domain, which `torch.func.vmap` cannot take.
        """
        check_inputs(inputs, self.in_channels, self.dimension, None)
        return self.fields.at(inputs, points, lead_time, check=check)

    def on_axes(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        axes: Sequence[Float[Tensor, "_"]],
        lead_time: Tensor | float | None = None,
    ) -> Float[Tensor, "batch output *line"]:
        """The output fields on the tensor grid of the coordinates ``axes``, one line of them per axis."""
        check_inputs(inputs, self.in_channels, self.dimension, None)
        return self.fields.on_axes(inputs, axes, lead_time)


class DeepONet(MultiONet):
    """DeepONet in 1D, 2D or 3D: fields in, fields out at any points, by the last layer of branch and trunk.

    Settings and errors as in the table of this module, without ``combined``.

    Source: Lu et al., "Learning nonlinear operators via DeepONet", Nature Machine Intelligence 2021.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        branch: str = "mlp",
        sensors: int | Sequence[int] = 32,
        modes: int | Sequence[int] = 12,
        branch_width: int = 256,
        latent: int = 128,
        width: int = 100,
        layers: int = 5,
        outputs: str = "split",
        separable: bool = False,
        waves: int = 0,
        max_lead_time: float | None = None,
        vanish_at_walls: bool = False,
        lower: Sequence[float] | None = None,
        upper: Sequence[float] | None = None,
        dimension: int = 2,
        boundary: str | Sequence[str | Sequence[str]] = "dirichlet",
        centring: str = "cell",
        activation: str = "tanh_sine",
        recompute: bool = False,
        members: int = 1,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            branch=branch,
            sensors=sensors,
            modes=modes,
            branch_width=branch_width,
            latent=latent,
            width=width,
            layers=layers,
            combined=1,
            outputs=outputs,
            separable=separable,
            waves=waves,
            max_lead_time=max_lead_time,
            vanish_at_walls=vanish_at_walls,
            lower=lower,
            upper=upper,
            dimension=dimension,
            boundary=boundary,
            centring=centring,
            activation=activation,
            recompute=recompute,
            members=members,
        )
