"""LSM, a plain U-Net and FNO on Darcy flow, each with the same samples and time."""

from __future__ import annotations

from collections.abc import Sequence

from fieldwright.gallery.darcy_data import darcy_data
from fieldwright.gallery.latent_spectral_model.effort import Effort
from fieldwright.gallery.page import Table
from fieldwright.gallery.plain_unet import PlainUNet
from fieldwright.gallery.race import Entrant, Finish, race, race_rows, with_equal_time
from fieldwright.operators import FourierOperator, LatentSpectralOperator
from fieldwright.problems import Darcy
from fieldwright.progress import Reporter
from fieldwright.training import Phase

LSM, GROUPS = "LSM, 32 channels, 5 scales, batch normalisation", "the same, each sample normalised in groups"
UNET, FNO = "plain U-Net, 32 channels", "FNO, 32 channels, 4 layers"


def race_on_darcy(effort: Effort, reporter: Reporter) -> list[Finish]:
    """Train all for the same time on two-phase Darcy flow."""
    data, test = darcy_data(Darcy(resolution=effort.points), effort.samples, effort.test_samples)
    timed = with_equal_time(entrants(effort), data, effort.seconds)
    return race(timed, data, test, seeds=effort.seeds, reporter=reporter)


def entrants(effort: Effort) -> list[Entrant]:
    """The field: each with the learning rate that serves it best in the method's reference runs."""

    def phase(learning_rate: float) -> Phase:
        return Phase(
            objective="l2",
            learning_rate=learning_rate,
            weight_decay=0.0,
            schedule="cosine",
            steps=1,  # until `with_equal_time` has measured how many there are
            batch_size=4,
        )

    modes, patch = min(16, effort.points // 4), max(1, effort.points // 16)
    return [
        Entrant(LSM, lambda: LatentSpectralOperator(1, 1, patch=patch, norm="batch"), phase(1e-3)),
        Entrant(GROUPS, lambda: LatentSpectralOperator(1, 1, patch=patch, norm="group"), phase(1e-3)),
        Entrant(UNET, lambda: PlainUNet(1, 1), phase(1e-3)),
        Entrant(FNO, lambda: FourierOperator(1, 1, width=32, layers=4, modes=modes), phase(4e-3)),
    ]


def race_table(finishes: Sequence[Finish], effort: Effort) -> Table:
    """Section one of the page."""
    return Table(
        heading="The race on Darcy flow",
        setting=(
            f"{effort.samples} training and {effort.test_samples} test samples of -∇·(a ∇u) = 1 with a two-phase "
            f"coefficient of 3 and 12, {effort.points} x {effort.points} cells. Each model has the steps that fit into "
            f"{effort.seconds:g} s of one thread of this machine, batch 4, AdamW, cosine schedule, relative L2 "
            "loss, in the precision that steps faster. The U-Net has batch normalisation, the FNO a "
            "quarter of the points as modes. "
            f"Median over {len(effort.seeds)} seeds (least to largest)."
        ),
        rows=race_rows(finishes),
        reading=(
            "At 64 x 64 independent runs of the published code had 2.4 to 3.0 % for LSM, 2.1 % for the U-Net and 2.3 "
            "to 2.6 % for the FNO, after 150 s of another processor. A step of LSM costs more than the U-Net's: "
            "compare the steps too. Normalising the batch learns faster than normalising each sample."
        ),
    )
