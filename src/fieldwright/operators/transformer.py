"""The scalable operator transformer (scOT) of Poseidon: an operator for each lead time, on levels of tokens.

    h ← norm(embed(x))                                      one token for patch x patch points
    h ← blocks_i(h),  s_i = skip_i(h),  h ← merge_i(h + h⁰)   for levels i = 0, 1, ...; h⁰ is what the level began with
    h = s of the coarsest level
    h ← blocks'_i(h + s_i),  h ← part_i(h)                    back to level 0; the coarsest adds no s
    y = conv5x5(unpatch(h))

Level i has tokens of ``width`` 2^i channels and half the tokens per axis of level i - 1. Every norm depends on the lead
time t (`fieldwright.operators.conditional_norm`); blocks, merge, part and skip are in
`fieldwright.operators.transformer_stages`.

Source: Herde et al., "Poseidon: Efficient Foundation Models for PDEs", NeurIPS 2024 (arXiv 2405.19101), section 2 and
appendix A. Names and shapes of the weights are those of the published checkpoints.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from fieldwright.errors import InputError
from fieldwright.grids import CENTRINGS, Boundary
from fieldwright.operators.conditional_norm import INITIAL_DEVIATION, ConditionalNorm, PlainNorm, norm
from fieldwright.operators.inputs import check_counts, check_inputs
from fieldwright.operators.lead_times import lead_times
from fieldwright.operators.published_transformer import holds_published, read_published
from fieldwright.operators.store import StoredOperator, restore
from fieldwright.operators.transformer_stages import Merge, Part, SkipBlock, Stage, same_size

# Width and depths of the published models; heads and skips follow from the number of levels.
SIZES: dict[str, tuple[int, tuple[int, ...]]] = {
    "T": (48, (4, 4, 4, 4)),
    "B": (96, (8, 8, 8, 8)),
    "L": (192, (8, 8, 8, 8)),
}


class OperatorTransformer(nn.Module, StoredOperator):
    """The operator transformer of Poseidon (scOT), in 2D: fields and a lead time in, fields out, on grids of any size.

    ``in_channels``, ``out_channels``  fields in and out
    ``size``               a published size, "T" (21 million parameters), "B" (158) or "L" (629); what follows and is
                           given wins over what the size says
    ``width``              channels of a token on the finest level (T: 48, B: 96, L: 192)
    ``depths``             blocks on each level, finest first (T: [4, 4, 4, 4], B and L: [8, 8, 8, 8])
    ``heads``              heads on each level ([3, 6, 12, 24]; 3 2^i)
    ``skips``              blocks of the skip on each level ([2, 2, 2, 0]; 2, and 0 on the coarsest)
    ``patch``              points of a token along each axis (4)
    ``window``             most tokens of a window along each axis (16)
    ``mlp_ratio``          hidden width of a block's perceptron, as a multiple of its width (4)
    ``conditioned``        whether the norms depend on the lead time
    ``residual``           add the first inputs to the outputs, as many as there are of both
    ``exact_start``        S(t, u) = u + t f(u, t) in the fields that inputs and outputs share: S(0, u) = u whatever the
                           weights; in physical units too where both are normalised alike
    ``periodic``           go around the grid along the axes that ``boundary`` says are periodic, in windows and
                           convolutions; the published network does not
    ``recompute``          save memory in training: compute the inner values of blocks again in the backward pass
    ``dimension``          2
    ``boundary``, ``centring``  of the fields; the published network is the same for all, only ``periodic`` reads them
    ``eps``                ε of the norms (1e-5)

    ``lead_time`` is a number, or one for each sample, in units of the longest that the data has: the published models
    are trained on 0..1. None stands for 1, which is how the paper treats steady problems, as limits for long times. A
    network that is not ``conditioned`` takes None only, and its norms start as the identity, so that it learns a steady
    problem faster from scratch.

    The grid need not be square. Where an axis is not a multiple of ``patch`` 2^(levels - 1) points (32 for the
    published models), its last values are repeated up to the next multiple and cut off from the output. Tokens are in
    grid units: on another resolution than the trained one it is another operator, so it is ``grid_bound``.

    Good values to start from on fewer than a thousand samples: ``width`` 24, ``depths`` [2, 2], ``patch`` 4, AdamW with
    a learning rate of 5e-4 to 1e-3 and the gradient's norm clipped at 5.

    Errors: `InputError` for an argument or input that cannot be used.
    """

    grid_bound = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        size: str = "T",
        width: int | None = None,
        depths: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
        skips: Sequence[int] | None = None,
        patch: int = 4,
        window: int = 16,
        mlp_ratio: float = 4.0,
        conditioned: bool = True,
        residual: bool = False,
        exact_start: bool = False,
        periodic: bool = False,
        recompute: bool = False,
        dimension: int = 2,
        boundary: str | Sequence[str | Sequence[str]] = "dirichlet",
        centring: str = "cell",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if size not in SIZES:
            raise InputError(f"size: '{size}'; there are {', '.join(SIZES)}")
        width = SIZES[size][0] if width is None else width
        depths = tuple(SIZES[size][1] if depths is None else depths)
        heads = tuple(3 * 2**i for i in range(len(depths))) if heads is None else tuple(heads)
        skips = (2,) * (len(depths) - 1) + (0,) if skips is None else tuple(skips)
        check_counts(in_channels=in_channels, out_channels=out_channels, width=width, patch=patch, window=window)
        _check_levels(width, depths, heads, skips)
        if dimension != 2:
            raise InputError(f"dimension: {dimension}; the operator transformer works on grids of dimension 2")
        if centring not in CENTRINGS:
            raise InputError(f"centring: '{centring}'; allowed are {', '.join(CENTRINGS)}")
        if not mlp_ratio > 0 or not eps > 0:
            raise InputError(f"mlp_ratio, eps: {mlp_ratio}, {eps}; both must be positive numbers")
        if exact_start and (residual or not conditioned):
            raise InputError("exact_start: it needs a lead time, so conditioned=True, and takes the place of residual")
        walls = Boundary.parse(boundary, dimension).periodic
        self.periodic = (walls[0] and periodic, walls[1] and periodic)
        self.exact_start = exact_start
        self.in_channels, self.out_channels, self.patch = in_channels, out_channels, patch
        self.conditioned, self.residual, self.recompute = conditioned, residual, recompute
        coarsest = len(depths) - 1
        widths = [width * 2**level for level in range(len(depths))]

        def stage(level: int, down: Merge | None, up: Part | None, *, last_unshifted: bool) -> Stage:
            return Stage(
                widths[level], depths[level], heads[level], int(mlp_ratio * widths[level]), window,
                last_unshifted=last_unshifted, eps=eps, conditioned=conditioned, downsample=down, upsample=up,
                periodic=self.periodic,
            )  # fmt: skip

        self.embeddings = nn.ModuleDict(
            {
                "patch_embeddings": nn.ModuleDict({"projection": nn.Conv2d(in_channels, width, patch, patch)}),
                "norm": norm(width, eps, conditioned=conditioned),
            }
        )
        encoder, decoder = [], []
        for level, channels in enumerate(widths):
            down = Merge(channels, eps=eps, conditioned=conditioned) if level < coarsest else None
            up = Part(channels, eps=eps, conditioned=conditioned) if level > 0 else None
            encoder.append(stage(level, down, None, last_unshifted=False))
            decoder.append(stage(level, None, up, last_unshifted=True))
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(encoder)})
        self.decoder = nn.ModuleDict({"layers": nn.ModuleList(reversed(decoder))})
        self.residual_blocks = nn.ModuleList(
            nn.ModuleList(
                SkipBlock(channels, eps=eps, conditioned=conditioned, periodic=self.periodic) for _ in range(count)
            )
            for channels, count in zip(widths, skips, strict=True)
        )
        self.patch_recovery = nn.ModuleDict(
            {
                "projection": nn.ConvTranspose2d(width, out_channels, patch, patch),
                "mixup": nn.Conv2d(out_channels, out_channels, 5, padding=2, bias=False),
            }
        )
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.normal_(module.weight, std=INITIAL_DEVIATION)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        lead_time: Tensor | float | None = None,
        missing: Bool[Tensor, "*sample field"] | None = None,
    ) -> Float[Tensor, "batch output *space"]:
        """The output fields on the grid of the inputs, a ``lead_time`` later.

        ``missing``  true for input fields that a sample does not have, for each sample or for all: they are read as
                     zero, the mean of a normalised field, whatever the tensor holds there
        """
        check_inputs(inputs, self.in_channels, 2, None)
        kernel: Tensor = self.embeddings["patch_embeddings"]["projection"].weight  # type: ignore
        t = lead_times(lead_time, inputs, conditioned=self.conditioned)
        t = None if t is None else t.to(kernel.dtype)[:, None, None, None]
        if missing is not None:
            if missing.shape[-1] != self.in_channels or missing.shape[:-1] not in ((), inputs.shape[:1]):
                raise InputError(
                    f"missing: shape {tuple(missing.shape)}; expected one truth value for each of the"
                    f" {self.in_channels} input channels, or for each sample and channel"
                )
            inputs = inputs.masked_fill(missing[..., None, None], 0)
        rows, columns = inputs.shape[2:]
        unit = self.patch * 2 ** (len(self.residual_blocks) - 1)
        for n, wraps in zip((rows, columns), self.periodic, strict=True):
            if wraps and n % unit:
                raise InputError(f"inputs of {n} points along a periodic axis; multiples of {unit} close it")
        lengthened = functional.pad(inputs, (0, -columns % unit, 0, -rows % unit), mode="replicate")
        h = self._embed(lengthened.to(kernel.dtype), t)
        skips: list[Tensor] = []
        for stage, residual in zip(self.encoder["layers"], self.residual_blocks, strict=True):  # type: ignore[arg-type]
            start, h = h, stage(h, t, recompute=self.recompute and self.training)
            skip = h
            for block in residual:  # type: ignore[union-attr]
                skip = block(skip, t)
            skips.append(skip)
            if stage.downsample is not None:
                h = stage.downsample(h + start, t)
        h = skips.pop()
        for stage in self.decoder["layers"]:  # type: ignore[union-attr]
            h = stage(h, t, recompute=self.recompute and self.training)
            if stage.upsample is not None:
                h = stage.upsample(h, t) + skips.pop()
        outputs = self._recover(h)[:, :, :rows, :columns].to(inputs.dtype)
        if self.residual or self.exact_start:
            shared = min(self.in_channels, self.out_channels)
            change = (
                outputs[:, :shared] * t.to(outputs.dtype) if self.exact_start and t is not None else outputs[:, :shared]
            )
            outputs = torch.cat((change + inputs[:, :shared], outputs[:, shared:]), 1)
        return outputs.contiguous()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | Path, *, map_location: str | torch.device = "cpu"
    ) -> Self:
        """The operator in a directory, in evaluation mode: one saved by us, or a published checkpoint as downloaded.

        A published one is a ``config.json`` of the class ScOT with ``model.safetensors`` or ``pytorch_model.bin``, of
        which nothing but tensors is unpickled. It is loaded strictly. Its inputs and outputs are normalised fields, its
        lead times fractions of the longest; the authors' terms hold for its weights. Unlike there, a grid of another
        size than the trained one is used as it is and not resampled. Dropout rates are not taken over.

        Errors: `DataError` when the directory is not there, damaged, holds something else, or a variant of the network
        that no published checkpoint has.
        """
        directory = Path(pretrained_model_name_or_path)
        if not holds_published(directory):
            return super().from_pretrained(directory, map_location=map_location)
        settings, tensors = read_published(directory)
        return restore(cls, settings, tensors, directory).to(map_location)

    def parameter_groups(self) -> dict[str, list[str]]:
        """Parameters by the groups in which the published models are fine-tuned.

        "fields"    what embeds inputs and recovers outputs, with the embedding's norm
        "norms"     all other norms
        "biases"    other names with "bias", so the whole perceptron of the position bias too
        "backbone"  the rest
        """
        normed = {
            f"{path}.{name}"
            for path, module in self.named_modules()
            if isinstance(module, ConditionalNorm | PlainNorm)
            for name, _ in module.named_parameters()
        }
        members: dict[str, list[str]] = {"backbone": [], "fields": [], "norms": [], "biases": []}
        for name, _ in self.named_parameters():
            if name.startswith(("embeddings.", "patch_recovery.")):
                group = "fields"
            elif name in normed:
                group = "norms"
            else:
                group = "biases" if "bias" in name else "backbone"
            members[group].append(name)
        return members

    def _embed(
        self, inputs: Float[Tensor, "batch channel rows columns"], t: Tensor | None
    ) -> Float[Tensor, "batch token_rows token_columns width"]:
        (batch, channels, rows, columns), p = inputs.shape, self.patch
        patches = inputs.reshape(batch, channels, rows // p, p, columns // p, p).permute(0, 2, 4, 1, 3, 5).flatten(3)
        projection: nn.Conv2d = self.embeddings["patch_embeddings"]["projection"]  # type: ignore
        tokens = functional.linear(patches, projection.weight.flatten(1), projection.bias)
        return self.embeddings["norm"](tokens, t)

    def _recover(
        self, h: Float[Tensor, "batch token_rows token_columns width"]
    ) -> Float[Tensor, "batch output rows columns"]:
        projection: nn.ConvTranspose2d = self.patch_recovery["projection"]  # type: ignore
        (batch, rows, columns, _), p = h.shape, self.patch
        # Never in bfloat16 under autocast: rounding each point of the output on its own is noise on the grid's scale.
        with torch.autocast(h.device.type, enabled=False):
            points = functional.linear(h.to(projection.weight.dtype), projection.weight.flatten(1).t())
            points = points.reshape(batch, rows, columns, self.out_channels, p, p).permute(0, 3, 1, 4, 2, 5)
            points = points.reshape(batch, self.out_channels, rows * p, columns * p)
            points = points + projection.bias[:, None, None]  # type: ignore[index]
            return same_size(self.patch_recovery["mixup"], points, self.periodic)  # type: ignore[arg-type]


def _check_levels(width: int, depths: Sequence[int], heads: Sequence[int], skips: Sequence[int]) -> None:
    for name, counts, least in (("depths", depths, 1), ("heads", heads, 1), ("skips", skips, 0)):
        wrong = any(isinstance(n, bool) or not isinstance(n, int) or n < least for n in counts)
        if wrong or not counts or len(counts) != len(depths):
            levels = f"for each of the {len(depths)} levels" if depths else "for each level"
            raise InputError(f"{name}: {list(counts)}; expected an integer, {least} or more, {levels}")
    for level, count in enumerate(heads):
        if width * 2**level % count:
            raise InputError(f"heads: {count} on level {level} do not divide its width of {width * 2**level}")
