"""Figures: readable without colour, scales shared, and safe for odd data."""

import dataclasses
import re

import matplotlib
import numpy as np
import pytest
from hand_made import make_evaluation, make_facts

from fieldwright.problems import Field
from fieldwright.report.curves import MOST_POINTS, error_spectrum, estimate_scatter, learning_curve, time_per_sample
from fieldwright.report.fields import MAPS, MOST_PIXELS, sample_panels
from fieldwright.report.svg import BLUE, GREEN, GREY, INK, ORANGE, inline_svg, new_figure


def lightness(rgb):
    """Relative luminance of sRGB colours (IEC 61966-2-1)."""
    rgb = np.asarray(rgb)[..., :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("name", sorted(set(MAPS.values())))
def test_colour_maps_are_monotone_in_lightness(name):
    steps = np.diff(lightness(matplotlib.colormaps[name](np.linspace(0, 1, 64))))
    assert (steps > -1e-3).all() or (steps < 1e-3).all()


@pytest.mark.parametrize("colour", [BLUE, ORANGE, GREEN, INK])
def test_line_colours_stand_out_from_paper(colour):
    # Contrast of at least 4.5 to 1 with white, as WCAG 2 asks of text.
    assert 1.05 / (lightness(matplotlib.colors.to_rgb(colour)) + 0.05) >= 4.5


def test_lines_differ_in_dashes_or_marks_and_not_in_colour_alone():
    spectrum = error_spectrum(make_evaluation())
    assert "stroke-dasharray" in spectrum
    scatter = estimate_scatter(make_evaluation())
    assert all(colour in scatter for colour in (BLUE, ORANGE, GREEN, GREY))


def test_a_log_scale_is_taken_for_inputs_over_many_decades():
    evaluation = make_evaluation()
    wide = {**evaluation.arrays, "inputs": np.exp(3 * evaluation.arrays["inputs"] / 4)}
    titles = re.findall(
        r">([^<>]+)</text>", sample_panels(dataclasses.replace(evaluation, arrays=wide))[0].rows[0][0].svg
    )
    assert "m²" in titles
    assert len(titles) >= 3


@pytest.mark.parametrize("constant", [0.0, -2.0, 1e-30, 1e30])
def test_constant_fields_and_exact_predictions_are_drawn(constant):
    evaluation = make_evaluation()
    same = np.full_like(evaluation.arrays["truth"], constant)
    arrays = {**evaluation.arrays, "truth": same, "prediction": same, "inputs": same}
    for sample in sample_panels(dataclasses.replace(evaluation, arrays=arrays)):
        assert all("<svg" in panel.svg for row in sample.rows for panel in row)


def test_scales_are_shared_by_truth_and_prediction_and_by_all_samples():
    samples = sample_panels(make_evaluation())
    ticks = [[re.findall(r">([^<>]+)</text>", panel.svg) for panel in sample.rows[0][1:3]] for sample in samples]
    assert all(shown == ticks[0][0] for pair in ticks for shown in pair)


def test_units_stand_at_the_colour_bar_and_powers_of_ten_beside_them():
    pressure = sample_panels(make_evaluation(median=1e-4))[0].rows[0]
    assert ">Pa</text>" in pressure[1].svg
    assert re.search(r">10⁻[⁴⁵⁶] Pa</text>", pressure[3].svg)
    assert ">1</text>" not in sample_panels(make_evaluation(inputs=(Field("a"),)))[0].rows[0][0].svg


def test_fine_images_are_thinned():
    sizes = (MOST_PIXELS, 4 * MOST_PIXELS)
    coarse, fine = (len(sample_panels(make_evaluation(points=n))[0].rows[0][1].svg) for n in sizes)
    assert fine < 2 * coarse


def test_a_learning_curve_needs_two_steps():
    assert learning_curve([]) is None
    assert learning_curve([{"step": 1, "train_loss": 0.5, "valid_l2": None}]) is None
    assert learning_curve(make_facts().metrics) is not None


def test_a_learning_curve_leaves_out_what_a_logarithm_cannot_show():
    rows = [{"step": i, "train_loss": v, "valid_l2": None} for i, v in enumerate([1.0, 0.0, float("nan"), 0.5, 0.2])]
    assert learning_curve(rows) is not None


def test_the_two_phases_of_a_constraint_are_drawn_where_they_were_logged():
    plain = [{"step": i, "train_loss": 0.5**i, "valid_l2": None} for i in range(9)]
    logged = [{**row, "constraint_excess": max(0.0, 4.0 - row["step"])} for row in plain]
    inside = [{**row, "constraint_excess": 0.0} for row in plain]
    assert "outside the constraint" in learning_curve(logged)
    assert "outside the constraint" not in learning_curve(inside)
    assert learning_curve(inside) == learning_curve(plain)


def test_a_long_training_does_not_weigh_on_the_page():
    rows = [{"step": i, "train_loss": 1 / (i + 1), "valid_l2": None} for i in range(50 * MOST_POINTS)]
    assert len(learning_curve(rows)) < 60_000


@pytest.mark.parametrize("spread", [1.3, 3.0, 30.0, 3e3])
def test_a_logarithmic_axis_has_at_least_two_labels_whatever_its_range(spread):
    rows = [{"step": i, "train_loss": v, "valid_l2": None} for i, v in enumerate(np.geomspace(0.75 / spread, 0.75, 9))]
    labels = re.findall(r">(0\.\d+|10⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹])</text>", learning_curve(rows))
    assert len(set(labels)) >= 2


def test_no_scatter_without_an_estimate():
    evaluation = make_evaluation()
    rows = tuple(dataclasses.replace(row, estimate=None) for row in evaluation.errors)
    assert estimate_scatter(dataclasses.replace(evaluation, errors=rows)) is None


def test_infinite_bounds_are_not_drawn():
    evaluation = make_evaluation()
    arrays = {k: np.full_like(v, np.inf) if k.startswith("bound") else v for k, v in evaluation.arrays.items()}
    scatter = estimate_scatter(dataclasses.replace(evaluation, arrays=arrays))
    assert ">bound, energy norm</text>" not in scatter
    assert ">bound, energy norm</text>" in estimate_scatter(evaluation)


def test_every_solver_has_a_labelled_mark_in_the_figure_of_times():
    drawn = time_per_sample(make_evaluation()).replace("\N{NO-BREAK SPACE}", " ")
    for text in ("surrogate, in batches: 1.1 ms", "our multigrid solver: 0.31 ms", "your own solver: 0.50 s"):
        assert text in drawn


def test_svg_is_reproducible_named_and_described():
    def draw(name):
        with new_figure(2, 2) as figure:
            figure.subplots().plot([0, 1], [0, 1])
            return inline_svg(figure, name, 'a "line" & more')

    assert draw("a") == draw("a")
    assert 'aria-label="a &quot;line&quot; &amp; more"' in draw("a")
    assert all(i.startswith("b-") for i in re.findall(r'\bid="([^"]+)"', draw("b")))
    assert "<metadata" not in draw("a")
