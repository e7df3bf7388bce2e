"""The spatiotemporal Fourier operator (ST-FNO, SFNO): known frames of a trajectory in, states at any lead times out.

    v₀ = lift(w),      v_l = σ( mlp_l(K_l v_{l-1}) + W_l v_{l-1} ),      u = output( v_L ),

on n latent states, which fill the horizon; K_l convolves in Fourier space and time. `lift` is
`fieldwright.operators.spatiotemporal_lifting.SpatiotemporalLifting`, `output`
`fieldwright.operators.spectral_output.SpectralOutputLayer`, which adds to the last known state what changes.

Source: Cao, Brarda, Li, Xi, "Spectral-Refiner: Accurate Fine-Tuning of Spatiotemporal Fourier Neural Operator for
Turbulent Flows", ICLR 2025 (arXiv 2405.17211). Weights of the published code do not fit: it ties them to the number of
frames and points by transforms that are not normalised, and to the index of a frame by what it adds to the input.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fieldwright.errors import InputError
from fieldwright.grids import CENTRINGS, Boundary
from fieldwright.operators.activations import Activation
from fieldwright.operators.activations import activation as activation_by_name
from fieldwright.operators.channels import ChannelMixing, ChannelPerceptron
from fieldwright.operators.coordinates import with_coordinates
from fieldwright.operators.inputs import check_counts
from fieldwright.operators.spatiotemporal_lifting import SpatiotemporalLifting
from fieldwright.operators.spectral import SpectralConvolution
from fieldwright.operators.spectral_output import SpectralOutputLayer
from fieldwright.operators.store import StoredOperator


class SpatiotemporalFourierOperator(nn.Module, StoredOperator):
    """SFNO in 1D, 2D or 3D and time: any number of frames in, states at any times of a horizon out, on any grid.

    It is called with a trajectory (batch, time, channel, *space) of any number of frames, or with fields (batch,
    channel, *space) that hold ``known`` frames one after the other, the oldest first, and the coefficients after them;
    outputs have the same form. So a recipe's one-frame problem has ``known`` = ``predicted`` = 1.

    ``in_channels``, ``out_channels``  channels of the fields in and out. A frame has out_channels / predicted of state,
                           and what in_channels has beyond ``known`` states are coefficients, part of each frame
    ``known``, ``predicted``  frames among the channels of the fields in and out (1)
    ``window``             time after which the input's first mode in time repeats (1): the known frames' number times
                           their distance, in the unit of lead times
    ``horizon``            the longest lead time (1)
    ``modes``              wavenumbers kept in space, a number or one per axis (24: up to 12, as published)
    ``output_modes``       the same for the output layer alone, which is cheap. None: twice ``modes``, as far as the
                           products of two waves reach; what changes beyond them, the operator cannot predict
    ``time_modes``         wavenumbers kept in time (9: up to 4, as published)
    ``latent_steps``       latent states n (10)
    ``width``              channels of a hidden layer (10)
    ``layers``             layers with the lifting, L + 1 (4)
    ``channel_mlp``        hidden width of the perceptron in a layer, as a multiple of ``width`` (4)
    ``time_features``      sines, and as many cosines, of the latent times that the lifting adds (4)
    ``coordinates``        append the coordinates of the points, in 0..1, to the inputs
    ``bias``               a free coefficient for each mode of the output
    ``residual``           add the last known state to the output; without it nothing says which channels are the state
    ``divergence_free``    project the outputs, a vector field on a periodic box, on what has no divergence. Surrogates
                           keep that if all components are normalised alike
    ``lengths``            edges of that box, a number or one per axis (1)
    ``dimension``          1, 2 or 3
    ``boundary``           a word for all sides or a [low, high] pair of words per axis, of "dirichlet", "neumann",
                           "periodic"
    ``centring``           "cell", "node" or "periodic": where the coordinates lie
    ``activation``         "gelu", "relu", "silu", "tanh" or "identity"
    ``recompute``          keep no features inside the layers for the backward pass but compute them again

    Good values to start from are the defaults, with a learning rate of 2e-3 to 1e-2.

    Errors: `InputError` for an argument or input that cannot be used.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        known: int = 1,
        predicted: int = 1,
        window: float = 1.0,
        horizon: float = 1.0,
        modes: int | Sequence[int] = 24,
        output_modes: int | Sequence[int] | None = None,
        time_modes: int = 9,
        latent_steps: int = 10,
        width: int = 10,
        layers: int = 4,
        channel_mlp: float = 4.0,
        time_features: int = 4,
        coordinates: bool = True,
        bias: bool = True,
        residual: bool = True,
        divergence_free: bool = False,
        lengths: float | Sequence[float] = 1.0,
        dimension: int = 2,
        boundary: str | Sequence[str | Sequence[str]] = "periodic",
        centring: str = "cell",
        activation: str = "gelu",
        recompute: bool = False,
    ) -> None:
        super().__init__()
        check_counts(
            in_channels=in_channels, out_channels=out_channels, known=known, predicted=predicted, width=width,
            layers=layers, time_modes=time_modes, latent_steps=latent_steps, time_features=time_features,
        )  # fmt: skip
        if dimension not in (1, 2, 3):
            raise InputError(f"dimension: {dimension}; allowed are 1, 2 and 3")
        kept = _per_axis("modes", modes, dimension)
        doubled = tuple(2 * m for m in kept)
        last = doubled if output_modes is None else _per_axis("output_modes", output_modes, dimension)
        if centring not in CENTRINGS:
            raise InputError(f"centring: '{centring}'; allowed are {', '.join(CENTRINGS)}")
        for name, value in {"window": window, "horizon": horizon, "channel_mlp": channel_mlp}.items():
            if not 0 < value < math.inf:
                raise InputError(f"{name}: {value}; it must be a positive number")
        self.known, self.predicted, self.dimension, self.centring = known, predicted, dimension, centring
        self.window, self.horizon, self.latent_steps = window, horizon, latent_steps
        self.coordinates, self.residual, self.recompute = coordinates, residual, recompute
        self.in_channels = in_channels
        self.state = _state_channels(in_channels, out_channels, known, predicted, residual=residual)
        self.frame_channels = in_channels - (known - 1) * self.state if residual else in_channels // known
        walls = Boundary.parse(boundary, dimension)
        box = _box(lengths, self.state, walls) if divergence_free else None
        act = activation_by_name(activation)
        hidden = max(1, round(channel_mlp * width))
        every = (time_modes, *kept)
        self.lift = SpatiotemporalLifting(
            self.frame_channels + (dimension if coordinates else 0),
            width,
            every,
            window,
            latent_steps,
            hidden=hidden,
            time_features=time_features,
            activation=act,
        )
        self.layers = nn.ModuleList(SpatiotemporalLayer(width, hidden, every, act) for _ in range(layers - 1))
        self.reduce = ChannelMixing(width, self.state)
        self.output_layer = SpectralOutputLayer(self.state, (time_modes, *last), horizon, bias=bias, lengths=box)

    def forward(
        self,
        inputs: Float[Tensor, "batch time_or_channel *rest"],
        lead_time: Tensor | float | None = None,
        *,
        spacing: float | None = None,
    ) -> Float[Tensor, "batch time_or_output *rest_out"]:
        """The states at the lead times, in the form of the inputs.

        ``lead_time``  times after the last known frame, up to ``horizon``: a number; for fields with one predicted
                       frame one per sample; else one per frame, or (batch, time). None: ``predicted`` equal steps up to
                       the horizon
        ``spacing``    time between the known frames. None: they fill the window
        """
        times = self._lead_times(lead_time, inputs)
        outputs = self.output_layer(self.latent(inputs, spacing=spacing), times).to(inputs.dtype)
        return outputs if inputs.ndim == self.dimension + 3 else outputs.flatten(1, 2)

    def latent(
        self, inputs: Float[Tensor, "batch time_or_channel *rest"], *, spacing: float | None = None
    ) -> Float[Tensor, "batch latent_time state *space"]:
        """What the output layer is given: the last known state (zeros without ``residual``), then the latent states."""
        frames = self._frames(inputs)
        if spacing is None:
            spacing = self.window / frames.shape[1]
        elif not 0 < spacing < math.inf:
            raise InputError(f"spacing: {spacing}; it must be a positive number")
        features = frames
        if self.coordinates:
            features = with_coordinates(frames.flatten(0, 1), self.centring).unflatten(0, frames.shape[:2])
        v = self._call(self.lift, features, spacing)
        for layer in self.layers:
            v = self._call(layer, v)
        states = self.reduce(v).transpose(1, 2)
        start = frames[:, -1:, : self.state] if self.residual else torch.zeros_like(states[:, :1])
        return torch.cat((start.to(states.dtype), states), 1)

    def _call(self, part: nn.Module, *inputs: Tensor | float) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(part, *inputs, use_reentrant=False)  # type: ignore[return-value]
        return part(*inputs)

    def _frames(self, inputs: Tensor) -> Float[Tensor, "batch time channel *space"]:
        if not inputs.is_floating_point():
            raise InputError(f"inputs of type {inputs.dtype}; the operator takes floating-point fields")
        if inputs.ndim == self.dimension + 3:
            if inputs.shape[2] != self.frame_channels or not inputs.shape[1]:
                raise InputError(
                    f"inputs: a trajectory of {inputs.shape[1]} frames of {inputs.shape[2]} channels; the operator"
                    f" takes one frame or more of {self.frame_channels}"
                )
            return inputs
        if inputs.ndim != self.dimension + 2:
            raise InputError(
                f"inputs of shape {tuple(inputs.shape)}; the operator takes batch, channel and {self.dimension} axes of"
                " space, or batch, time, channel and space"
            )
        if inputs.shape[1] != self.in_channels:
            raise InputError(f"inputs have {inputs.shape[1]} channels; the operator takes {self.in_channels}")
        if not self.residual:
            return inputs.unflatten(1, (self.known, self.frame_channels))
        frames = inputs[:, : self.known * self.state].unflatten(1, (self.known, self.state))
        coefficients = inputs[:, None, self.known * self.state :].expand(-1, self.known, *[-1] * (self.dimension + 1))
        return torch.cat((frames, coefficients), 2)

    def _lead_times(self, lead_time: Tensor | float | None, inputs: Tensor) -> Float[Tensor, "batch_or_1 time"]:
        dtype = torch.float64 if inputs.dtype == torch.float64 else torch.float32
        if lead_time is None:
            steps = torch.arange(1, self.predicted + 1, dtype=dtype, device=inputs.device)
            return (steps * (self.horizon / self.predicted))[None]
        times = torch.as_tensor(lead_time, dtype=dtype, device=inputs.device)
        batch, trajectory = len(inputs), inputs.ndim == self.dimension + 3
        if times.ndim == 0:
            times = times[None, None]
        elif times.ndim == 1:
            times = times[None] if trajectory or self.predicted > 1 else times[:, None]
        frames_fit = trajectory or times.shape[-1] == self.predicted
        if times.ndim != 2 or len(times) not in (1, batch) or not frames_fit or not times.shape[-1]:
            wanted = "one or more" if trajectory else str(self.predicted)
            raise InputError(
                f"lead_time: shape {tuple(torch.as_tensor(lead_time).shape)}; expected {wanted} for the batch or for"
                f" each of its {batch} samples"
            )
        # A compiled or exported operator cannot stop over a value.
        if not torch.compiler.is_compiling() and not bool(((times >= 0) & (times <= self.horizon * (1 + 1e-5))).all()):
            raise InputError(
                f"lead_time: {times.flatten().tolist()}; lead times of this operator are 0 to {self.horizon:g}, its"
                " horizon; roll_out goes further"
            )
        return times


class SpatiotemporalLayer(nn.Module):
    """σ( mlp(K v) + W v ) on latent states (batch, width, step, *space)."""

    def __init__(self, width: int, hidden: int, modes: Sequence[int], activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.spectral = SpectralConvolution(width, width, modes)
        self.mlp = ChannelPerceptron(width, hidden, width, activation)
        self.skip = ChannelMixing(width, width)

    def forward(self, v: Float[Tensor, "batch width step *space"]) -> Float[Tensor, "batch width step *space"]:
        return self.activation(self.mlp(self.spectral(v, torch.zeros_like(v))) + self.skip(v))


def _per_axis(name: str, modes: int | Sequence[int], dimension: int) -> tuple[int, ...]:
    kept = (modes,) * dimension if isinstance(modes, int) else tuple(modes)
    if len(kept) != dimension or any(isinstance(m, bool) or not isinstance(m, int) or m < 1 for m in kept):
        raise InputError(f"{name}: {modes}; expected a positive integer, or one for each of the {dimension} axes")
    return kept


def _state_channels(inner: int, outer: int, known: int, predicted: int, *, residual: bool) -> int:
    """Channels of a state: those of one predicted frame."""
    state, rest = divmod(outer, predicted)
    if rest:
        raise InputError(f"out_channels: {outer}; they must be {predicted} predicted frames of the same channels")
    if residual and inner < known * state:
        raise InputError(
            f"in_channels: {inner}; {known} known frames of the state's {state} channels are needed, or residual=False"
        )
    if not residual and inner % known:
        raise InputError(f"in_channels: {inner}; they must be {known} known frames of the same channels")
    return state


def _box(lengths: float | Sequence[float], channels: int, walls: Boundary) -> tuple[float, ...]:
    """The edges of the box, where its vector fields can be made free of divergence."""
    dimension = len(walls.sides)
    if channels != dimension or dimension == 1:
        raise InputError(
            f"divergence_free: a state of {channels} channels in {dimension} dimensions is no vector field"
        )
    if not all(walls.periodic):
        raise InputError(f"divergence_free: needs a periodic box; the boundary is {walls.to_list()}")
    edges = (lengths,) * dimension if isinstance(lengths, int | float) else tuple(lengths)
    if len(edges) != dimension or not all(0 < edge < math.inf for edge in edges):
        raise InputError(f"lengths: {lengths}; expected a positive number, or one for each of the {dimension} axes")
    return tuple(float(edge) for edge in edges)
