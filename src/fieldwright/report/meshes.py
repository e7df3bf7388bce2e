"""A moved mesh drawn over the field that it follows: a curve with its nodes, or an image with the lines of the mesh.

In three dimensions the middle layer of the last axis is drawn, its nodes seen along that axis.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.report.svg import BLUE, INK, ORANGE, inline_svg, new_figure
from fieldwright.solvers.meshing import Mesh


def mesh_picture(
    mesh: Mesh, fields: Float[Tensor, "batch channel *space"], *, sample: int = 0, name: str = "mesh"
) -> str:
    """The mesh of one sample over its first field, as an ``<svg>`` element for HTML."""
    wide, high = (4.2, 4.0) if mesh.grid.dimension > 1 else (5.2, 2.6)
    with new_figure(wide, high) as figure:
        draw_mesh(figure.subplots(), mesh, fields, sample=sample)
        nodes = " by ".join(str(n) for n in mesh.grid.shape)
        return inline_svg(figure, name, f"A mesh of {nodes} nodes over the field that it follows")


def draw_mesh(axes: Axes, mesh: Mesh, fields: Float[Tensor, "batch channel *space"], *, sample: int = 0) -> None:
    """Draw it on axes of a figure of one's own.

    Errors: `InputError` for fields that are not on the grid that the mesh was made for, or a sample that is not there.
    """
    grid = mesh.monitor_grid
    if tuple(fields.shape[2:]) != grid.shape or not 0 <= sample < min(len(fields), len(mesh.nodes)):
        raise InputError(
            f"mesh picture: sample {sample} of fields of shape {tuple(fields.shape)}; the mesh has"
            f" {len(mesh.nodes)} samples on {grid.shape}"
        )
    field = fields[sample, 0].detach().double().cpu().numpy()
    nodes = mesh.nodes[sample].detach().double().cpu().numpy()
    if grid.dimension == 1:
        x = grid.axis(0).numpy()
        axes.plot(x, field, color=BLUE)
        inside = (nodes[0] - grid.lower[0]) % grid.lengths[0] + grid.lower[0] if mesh.box.periodic[0] else nodes[0]
        period = grid.lengths[0] if mesh.box.periodic[0] else None
        axes.plot(inside, np.interp(inside, x, field, period=period), "|", color=ORANGE, markersize=9)
        axes.set_xlabel("x")
        return
    if grid.dimension == 3:
        field, nodes = field[..., field.shape[-1] // 2], nodes[..., nodes.shape[-1] // 2]
    (left, right), (bottom, top) = ((grid.lower[a], grid.upper[a]) for a in (0, 1))
    axes.imshow(field.T, origin="lower", extent=(left, right, bottom, top), cmap="viridis", aspect="equal")
    along = np.moveaxis(nodes[:2], 0, -1)
    lines = LineCollection([*along, *along.transpose(1, 0, 2)], colors=INK, linewidths=0.35, alpha=0.8)
    axes.add_collection(lines)
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel="x", ylabel="y")
    axes.grid(False)
