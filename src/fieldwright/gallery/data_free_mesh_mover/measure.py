"""The page of the mesh mover: its sections, what must hold of them, and their picture."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fieldwright.gallery.data_free_mesh_mover.contest import (
    HESSIAN,
    HYBRID,
    NETWORK,
    RELAXED,
    UNIFORM,
    Entrant,
    Score,
    Validity,
    contest,
    validity,
)
from fieldwright.gallery.data_free_mesh_mover.effort import FULL, QUICK, Effort
from fieldwright.gallery.data_free_mesh_mover.fronts import Fronts
from fieldwright.gallery.data_free_mesh_mover.learning import FIELDS, trained_network
from fieldwright.gallery.data_free_mesh_mover.two_branches import Trained, branches_table, compare_branches
from fieldwright.gallery.page import Claim, Reproduction, Table
from fieldwright.operators import MeshNetwork
from fieldwright.progress import Reporter
from fieldwright.solvers.meshing import Hybrid, MeshMover, Relaxation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEST_SEED, CHECK_SEED = 1, 10**6
PLAIN = RELAXED.format(40)


def reproduce_data_free_mesh_mover(quick: bool, reporter: Reporter) -> Reproduction:
    """Measure the three sections: meshes, their validity, and the operator that uses them."""
    effort = QUICK if quick else FULL
    network, seconds = trained_network(HESSIAN, steps=effort.network_steps)
    reporter.notice(f"mesh network trained in {seconds:.0f} CPU-s")
    rows = entrants(network)
    scores = contest(rows, Fronts.draw(effort.fields, TEST_SEED), effort.nodes)
    counts = validity(rows[1:], effort.checked, effort.nodes, seed=CHECK_SEED)
    reporter.notice(f"{effort.checked} fields checked for inverted cells")
    branches = compare_branches(effort, reporter)
    return Reproduction(
        title="Data-free mesh mover (DMM, MM-PDE)",
        source=(
            "P. Hu, Y. Wang, Z.-M. Ma, *Better Neural PDE Solvers Through Data-Free Mesh Movers*, ICLR 2024, "
            "[arXiv 2312.05583](https://arxiv.org/abs/2312.05583)."
        ),
        introduction=INTRODUCTION,
        tables=[
            meshes_table(list(scores.values()), seconds, effort),
            validity_table(counts, effort),
            branches_table(branches, effort),
        ],
        claims=claims(scores, counts, branches),
        figure=draw(list(scores.values()), network, effort),
        caption="Left: how many times less than the uniform mesh each errs. Right: a mesh of the network, polished",
    )


INTRODUCTION = """
A mesh mover takes nodes to where a field varies. This one is a network trained on the Monge-Ampère equation alone, with
no meshes to learn from; the paper then gives the moved mesh to the second branch of a neural solver, and reports a
one-step error of 6.7e-7 instead of about 2e-6 on Burgers' equation. Relaxing the same equation is the classical way to
the same mesh. It stands beside the network here.
"""


def entrants(network: MeshNetwork) -> list[Entrant]:
    """The rows of the page's first table."""
    return [
        Entrant(UNIFORM, None),
        Entrant(NETWORK, network.potentials),
        Entrant(RELAXED.format(10), Relaxation(steps=10)),
        Entrant(PLAIN, Relaxation(steps=40)),
        Entrant(HYBRID, Hybrid(network.potentials)),
    ]


def meshes_table(scores: Sequence[Score], seconds: float, effort: Effort) -> Table:
    """Section one of the page."""
    return Table(
        heading="Meshes for fields with fronts",
        setting=(
            f"{effort.fields} unseen fields with one or two bent fronts, 0.015 to 0.045 wide, known on 64 x 64 cells; "
            f"L2 error of linear interpolation on {effort.nodes} x {effort.nodes} moved nodes against uniform ones. "
            f"The network saw 512 other fields, {effort.network_steps} steps, {seconds:.0f} CPU-s. Time per mesh in a "
            "batch, CPU, one thread, without the monitor."
        ),
        rows=[
            {
                "mesh": found.name,
                "times less error, median": found.median,
                "least": min(found.ratios),
                "variation of monitor times area": found.variation,
                "inverted before the safe step": found.inverted_before,
                "after": found.inverted,
                "ms a mesh": 1e3 * found.seconds,
            }
            for found in scores
        ],
        reading=(
            "On a box relaxation needs no training, and its meshes err less, for at most a few times its time. "
            "The network is for where relaxation is awkward: one call, differentiable, the same time for every field."
        ),
    )


def validity_table(counts: Sequence[Validity], effort: Effort) -> Table:
    """Section two of the page."""
    return Table(
        heading="Is any cell inverted?",
        setting=f"{effort.checked:,} other fields, {effort.nodes} x {effort.nodes} nodes.",
        rows=[
            {
                "mesh": found.name,
                "meshes with an inverted cell before": found.before,
                "after the safe step": found.after,
                "least cell area, relative to uniform": found.least_volume,
            }
            for found in counts
        ],
        reading="The step ends where the first triangle has a twentieth of its area left, a root of a quadratic.",
    )


def claims(scores: Mapping[str, Score], counts: Sequence[Validity], branches: Sequence[Trained]) -> list[Claim]:
    """The statements that the page is there to bear out."""
    network, plain, hybrid = (scores[name].median for name in (NETWORK, PLAIN, HYBRID))
    inverted = sum(found.after for found in counts) + sum(found.inverted for found in scores.values())
    moving, uniform = (statistics.median(b.l2 for b in branches if b.mesh == m) for m in ("moving", "uniform"))
    return [
        Claim(
            "The network, trained without a mesh, errs 3 times less than the uniform mesh",
            f"{network:.2f}",
            network >= 3,
        ),
        Claim("Plain relaxation, without any training, 3.8 times", f"{plain:.2f}", plain >= 3.8),
        Claim("The network and five relaxation steps, 4.1 times", f"{hybrid:.2f}", hybrid >= 4.1),
        Claim("After the safe step no cell of any mesh is inverted", f"{inverted} meshes", inverted == 0),
        Claim(
            "The network's meshes are better than those of plain relaxation",
            f"{network:.2f} against {plain:.2f}",
            network > plain,
        ),
        Claim(
            "Moving the nodes of its second branch lowers the operator's error",
            f"{moving:.2%} against {uniform:.2%}",
            moving < uniform,
        ),
    ]


def draw(scores: Sequence[Score], network: MeshNetwork, effort: Effort) -> Figure:
    """The page's picture: the ratios of all fields, and one mesh over its field."""
    from matplotlib.figure import Figure

    from fieldwright.report.meshes import draw_mesh

    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    moved = scores[1:]
    for place, found in enumerate(moved):
        left.plot(found.ratios, [place] * len(found.ratios), "k.", alpha=0.4)
        left.plot([found.median], [place], "ko", markersize=9)
    left.axvline(1, color="k", linewidth=0.8)
    left.set_yticks(range(len(moved)), [found.name for found in moved])
    left.set(xlabel="error of the uniform mesh / error of the mesh, a dot a field", xlim=(0, None))
    left.invert_yaxis()
    left.grid(alpha=0.3)
    fields = Fronts.draw(effort.fields, TEST_SEED).on(FIELDS)[:1]
    draw_mesh(right, MeshMover(FIELDS, engine=Hybrid(network.potentials), nodes=effort.nodes)(fields), fields)
    return figure
