"""The gallery measures what it says: exact data, fair races, pages with everything on them."""

import math
import subprocess
import sys

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from fieldwright.datasets import Normalizer
from fieldwright.errors import InputError
from fieldwright.gallery import GALLERY, Claim, Reproduction, Table, reproduce, verdict, write_page
from fieldwright.gallery.multigrid_neural_operator.elliptic_inverse import VARIANTS, sine_series
from fieldwright.gallery.multigrid_neural_operator.periodicity import PADDED, PERIODIC, PERIODIC_FNO, shift_defects
from fieldwright.gallery.page import markdown, spread
from fieldwright.gallery.plain_unet import PlainUNet
from fieldwright.gallery.race import Entrant, race
from fieldwright.grids import Grid
from fieldwright.progress import SILENT
from fieldwright.training import Phase, TrainingData


def test_sine_series_solve_the_five_point_laplacian():
    n = 12
    source, solution = (field.double() for field in sine_series(n, 3, torch.Generator().manual_seed(0)))
    inside = nn.functional.pad(solution, (1, 1, 1, 1))  # zero walls one spacing outside the interior nodes
    neighbours = inside[..., :-2, 1:-1] + inside[..., 2:, 1:-1] + inside[..., 1:-1, :-2] + inside[..., 1:-1, 2:]
    laplacian = (4 * solution - neighbours) * (n + 1) ** 2
    assert float((laplacian - source).norm() / source.norm()) < 1e-4  # float32 data times 1/h²


def test_white_noise_has_all_modes_alike_and_training_sources_do_not():
    smooth = sine_series(32, 20, torch.Generator().manual_seed(0))[0]
    noise = sine_series(32, 20, torch.Generator().manual_seed(0), smooth=False)[0]

    def roughness(field):
        return float(field.diff(dim=-1).square().mean() / field.square().mean())

    assert roughness(noise) == pytest.approx(2, rel=0.1)  # neighbours of white noise are independent
    assert roughness(smooth) < 0.2


@pytest.mark.parametrize(("place", "weights"), [(0, 8989), (1, 10069), (2, 2121), (3, 8989), (4, 8989)])
def test_variants_have_the_weights_of_the_reference_runs(place, weights):
    assert sum(p.numel() for p in VARIANTS[place].build().parameters()) == weights


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_variants_are_linear(variant):
    torch.manual_seed(0)
    operator = variant.build()
    a, b = torch.randn(2, 1, 1, 32, 32)
    combined = operator(2 * a - 3 * b)
    assert torch.allclose(combined, 2 * operator(a) - 3 * operator(b), atol=1e-5)


def test_periodic_operators_commute_with_shifts_and_the_padded_one_does_not():
    before = torch.random.get_rng_state()
    defects = shift_defects()
    assert torch.equal(before, torch.random.get_rng_state())
    assert defects[PERIODIC] < 1e-5
    assert defects[PERIODIC_FNO] < 1e-5
    assert defects[PADDED] > 0.05


def test_unet_uses_every_weight_and_keeps_the_size():
    torch.manual_seed(0)
    network = PlainUNet(2, 3, width=4)
    outputs = network(torch.randn(2, 2, 32, 48))
    assert outputs.shape == (2, 3, 32, 48)
    outputs.square().sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in network.parameters())


def tiny_data():
    inputs = torch.randn(12, 1, 16, generator=torch.Generator().manual_seed(0))
    samples = (inputs, 3 * inputs)
    identity = Normalizer(torch.zeros(1), torch.ones(1))
    return TrainingData(samples, samples, inputs=identity, outputs=identity, grid=Grid((16,), "cell"))


def test_a_race_is_the_same_for_the_same_seeds():
    data = tiny_data()
    entrant = Entrant("linear", lambda: nn.Conv1d(1, 1, 1), Phase(steps=30, learning_rate=0.3, batch_size=4))
    first, again = (
        race([entrant], data, data.train_samples.batch(range(12)), seeds=(0, 1), reporter=SILENT) for _ in "ab"
    )
    assert first == again
    assert [finish.seed for finish in first] == [0, 1]
    assert first[0].l2 != first[1].l2
    assert all(finish.l2 < 0.2 and finish.steps == 30 and finish.parameters == 2 for finish in first)


def example(**changes):
    facts = {
        "title": "A method",
        "source": "A paper.",
        "introduction": "What it is.",
        "tables": [
            Table("One", "How.", [{"variant": "a|b", "error": 0.01234, "weights": 12345}, {"variant": "c"}], "So.")
        ],
        "claims": [Claim("small", "1 %", True), Claim("smaller than small", "2 %", False)],
        "name": "method",
    }
    return Reproduction(**{**facts, **changes})


def test_a_page_holds_tables_claims_and_what_it_was_measured_on():
    text = markdown(example(seconds=12.3))
    assert text.startswith("# A method\n\nA paper.\n\nWhat it is.\n")
    assert "| variant | error | weights |\n| --- | --- | --- |\n| a\\|b | 0.0123 | 12,345 |\n| c | – | – |" in text
    assert "| smaller than small | 2 % | **no** |" in text
    assert "Measured in 12 s on " in text
    assert "mean nothing" not in text
    assert "mean nothing" in markdown(example(quick=True))


def test_a_page_is_written_with_its_figure(tmp_path):
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2])
    page = write_page(example(figure=figure, caption="A line"), tmp_path / "deep")
    assert "![A line](method.svg)" in page.read_text()
    assert (tmp_path / "deep" / "method.svg").read_text().startswith("<?xml")
    assert verdict(example()) == "holds  small: 1 %\nFAILS  smaller than small: 2 %"
    assert not example().holds
    assert example(claims=[Claim("small", "1 %", True)]).holds


def test_a_spread_names_median_least_and_largest():
    assert spread([0.01, 0.03, 0.02]) == "2 % (1 to 3)"
    assert spread([0.0123]) == "1.23 %"


def test_an_unknown_method_is_refused_with_the_names_there_are():
    with pytest.raises(InputError, match="multigrid-neural-operator"):
        reproduce("multigrid-neural-operators")


def test_the_module_names_its_methods_for_the_makefile():
    printed = subprocess.run([sys.executable, "-m", "fieldwright.gallery"], capture_output=True, text=True, check=True)
    assert printed.stdout.split() == list(GALLERY)


def test_a_quick_run_makes_the_whole_page(tmp_path):
    measured = reproduce("multigrid-neural-operator", tmp_path, quick=True)
    text = (tmp_path / "multigrid-neural-operator.md").read_text()
    assert (tmp_path / "multigrid-neural-operator.svg").exists()
    assert [table.heading in text for table in measured.tables] == [True, True, True]
    assert "mean nothing" in text
    assert all(len(table.rows) >= 3 for table in measured.tables)
    assert math.isfinite(measured.seconds)


@pytest.mark.slow
@pytest.mark.parametrize("name", GALLERY)
def test_every_claim_of_the_page_holds(name, tmp_path):
    measured = reproduce(name, tmp_path)
    assert measured.seconds < 600
    assert not [f"{claim.statement}: {claim.measured}" for claim in measured.claims if not claim.holds]
