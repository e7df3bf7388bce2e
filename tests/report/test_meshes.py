"""Pictures of meshes: every line of the mesh is drawn where its nodes are."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.report.meshes import draw_mesh, mesh_picture
from fieldwright.solvers.meshing import MeshMover, Relaxation


def made(shape, centring="node"):
    grid = Grid(shape, centring)
    u = torch.tanh(5 * torch.sin(6 * grid.coordinates().sum(0)))[None, None]
    return u, MeshMover(grid, engine=Relaxation(modes=6, steps=5))(u)


@pytest.mark.parametrize("shape", [(9, 8), (7, 6, 5)])
def test_the_lines_are_those_of_the_nodes(shape):
    u, mesh = made(shape)
    axes = Figure().subplots()
    draw_mesh(axes, mesh, u)
    lines = axes.collections[0].get_segments()
    assert len(lines) == shape[0] + shape[1]
    nodes = mesh.nodes[0].numpy() if len(shape) == 2 else mesh.nodes[0, :, :, :, shape[2] // 2].numpy()
    np.testing.assert_allclose(lines[2], nodes[:2, 2].T)
    np.testing.assert_allclose(lines[shape[0] + 3], nodes[:2, :, 3].T)


@pytest.mark.parametrize("centring", ["node", "periodic"])
def test_the_nodes_of_a_line_sit_on_its_curve(centring):
    u, mesh = made((65,), centring)
    axes = Figure().subplots()
    draw_mesh(axes, mesh, u)
    x, y = axes.lines[1].get_data()
    assert len(x) == 65
    assert 0 <= min(x) <= max(x) <= 1
    np.testing.assert_allclose(
        y, np.interp(x, mesh.monitor_grid.axis(0), u[0, 0], period=1 if centring == "periodic" else None)
    )


def test_the_same_mesh_gives_the_same_svg():
    u, mesh = made((9, 8))
    text = mesh_picture(mesh, u, name="front")
    assert text == mesh_picture(mesh, u, name="front")
    assert text.startswith("<svg")
    assert "9 by 8 nodes" in text


def test_fields_of_another_grid_and_samples_that_are_not_there_are_refused():
    u, mesh = made((9, 8))
    with pytest.raises(InputError, match="mesh picture"):
        draw_mesh(Figure().subplots(), mesh, u[..., :5])
    with pytest.raises(InputError, match="sample 1"):
        draw_mesh(Figure().subplots(), mesh, u, sample=1)
