"""The report as a document: complete, self-contained, escaped and the same every time."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hand_made import make_evaluation, make_facts

from fieldwright.analysis import ErrorSummary, RolloutErrors
from fieldwright.errors import StorageError
from fieldwright.problems import Field
from fieldwright.report import render_report, write_report
from fieldwright.report.tables import fact_rows
from fieldwright.training.noise_scale import BatchAdvice, NoiseScale

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Document(HTMLParser):
    """Open elements, attributes and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page():
    return render_report(make_evaluation(), make_facts())


@pytest.fixture(scope="module")
def document(page):
    return Document(page)


def test_every_element_is_closed(document):
    assert document.open == []


def test_the_sections_are_there(document):
    text = " ".join(document.text)
    for heading in (
        "How large are the errors?",
        "What do predictions look like?",
        "How was it learned, and what is left?",
        "Does it know its own error?",
        "When does it pay?",
        "What is a prediction worth to the solver?",
        "How to make it again",
    ):
        assert heading in text


def test_everything_to_make_it_again_is_there(page):
    facts = make_facts()
    for text in (facts.command, "resolution: 64", "2.13.0", *facts.checksums.values(), "576,001", "Some Vendor"):
        assert text in page


def test_nothing_is_fetched(page, document):
    assert document.all("script") == []
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    for _, attributes in document.elements:
        for name in ("src", "href", "xlink:href", "data", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert any("default-src 'none'" in (meta.get("content") or "") for meta in document.all("meta"))


def test_identifiers_are_unique_and_every_reference_is_met(page, document):
    identifiers = [attributes["id"] for _, attributes in document.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    references = re.findall(r'(?:href="#|url\(#)([^")]+)', page)
    assert set(references) <= set(identifiers)


def test_every_figure_has_an_alternative_text_and_a_caption(document):
    drawn = document.all("svg")
    assert len(drawn) == 3 * 4 + 4
    assert all(svg["role"] == "img" and len(svg["aria-label"]) > 15 for svg in drawn)
    assert len(document.all("figcaption")) == len(drawn) == len(document.all("figure"))


def test_text_in_figures_stays_text(document):
    assert "wavenumber (half-waves per box)" in document.text
    assert "Pa" in document.text


def test_what_comes_from_outside_is_escaped():
    attack = "<script>alert(1)</script>\"'&"
    evaluation = make_evaluation(inputs=(Field(attack, attack),), outputs=(Field(attack, "1"),))
    row = dataclasses.replace(evaluation.errors[1], name=attack, note=attack)
    evaluation = dataclasses.replace(evaluation, errors=(evaluation.errors[0], row), certified=attack)
    facts = make_facts(
        title=attack,
        problem=attack,
        command=attack,
        recipe=attack,
        environment={attack: attack},
        checksums={attack: attack},
    )
    document = Document(render_report(evaluation, facts))
    assert document.all("script") == []
    assert document.open == []
    assert "".join(document.text).count("alert(1)") > 8


def test_facts_are_told_as_text():
    facts = {
        "samples": {"train": 3, "failed": []},
        "seconds": 0.0287973,
        "residual": 6.6e-9,
        "sizes": [1, 2],
        "none": None,
    }
    told = [(name, value.replace("\N{NO-BREAK SPACE}", " ")) for name, value in fact_rows(facts)]
    assert told == [
        ("samples.train", "3"),
        ("samples.failed", "–"),
        ("seconds", "0.0288"),
        ("residual", "6.60 × 10⁻⁹"),
        ("sizes", "1, 2"),
        ("none", "–"),
    ]


def test_the_same_evaluation_gives_the_same_page(page):
    assert render_report(make_evaluation(), make_facts()) == page


def test_the_verdict_comes_before_the_figures(page):
    assert page.index("use the solver.") < page.index("Key figures") < page.index("<table")


def test_never_stands_in_the_break_even_table(document):
    text = [t.strip() for t in document.text]
    assert "our fastest: multigrid" in text
    assert "never" in text[text.index("our fastest: multigrid") :]


@pytest.mark.parametrize("dimension", [1, 3])
def test_fields_of_every_dimension_and_several_channels_are_drawn(dimension):
    evaluation = make_evaluation(
        dimension=dimension,
        points=8,
        inputs=(Field("permeability", "m²"), Field("porosity")),
        outputs=(Field("pressure", "Pa"), Field("velocity", "m/s")),
    )
    document = Document(render_report(evaluation, make_facts()))
    labels = [svg["aria-label"] for svg in document.all("svg")]
    panels = 2 + 2 * 2 if dimension == 1 else 2 + 2 * 3
    assert len([label for label in labels if "of the worst sample" in label]) == panels
    assert ("mid-plane" in " ".join(document.text)) == (dimension == 3)


def test_a_run_without_curve_estimate_or_certificate_still_has_a_report():
    evaluation = make_evaluation()
    rows = tuple(dataclasses.replace(row, estimate=None) for row in evaluation.errors)
    evaluation = dataclasses.replace(evaluation, errors=rows, certified="no iterative solver", defects=())
    page = render_report(evaluation, make_facts(metrics=(), checksums={}))
    assert "there is no estimate" in page
    assert "Not measured: no iterative solver." in page
    assert "Learning curve" not in page


@pytest.fixture
def short_page(monkeypatch):
    monkeypatch.setattr("fieldwright.report.page.render_report", lambda evaluation, facts: "<html>∇</html>")


@pytest.mark.usefixtures("short_page")
def test_the_report_replaces_an_older_one_whole(tmp_path, evaluation, facts):
    path = tmp_path / "report.html"
    path.write_text("older")
    write_report(evaluation, facts, path)
    assert path.read_text(encoding="utf-8") == "<html>∇</html>"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.usefixtures("short_page")
def test_a_report_that_cannot_be_written_is_a_storage_error(tmp_path, evaluation, facts):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        write_report(evaluation, facts, tmp_path / "file" / "report.html")


def test_numbers_among_the_inputs_are_said_and_not_drawn():
    evaluation = make_evaluation()
    count = len(evaluation.shown)
    viscosity = np.full((count, 1, *evaluation.arrays["inputs"].shape[2:]), 0.0125, np.float32)
    with_number = dataclasses.replace(
        evaluation,
        inputs=(*evaluation.inputs, Field("viscosity", "m²/s", number=True)),
        arrays=evaluation.arrays | {"inputs": np.concatenate([evaluation.arrays["inputs"], viscosity], 1)},
    )
    page = render_report(with_number, make_facts())
    assert page.count("viscosity 0.0125 m²/s") == count
    assert "Input: viscosity" not in page
    assert page.count("<svg") == render_report(evaluation, make_facts()).count("<svg")


@pytest.mark.parametrize("lost", [0, 3, 12])
def test_roll_outs_have_a_section_of_their_own(lost):
    errors = 0.01 * np.arange(6) * np.linspace(0.5, 2, 12)[:, None]
    errors[:lost, 3:] = np.inf
    kept = errors[lost:, -1]
    last = ErrorSummary(0.05, 0.09, float(kept.max()), len(kept)) if len(kept) else None
    evaluation = make_evaluation()
    assert "roll-out" not in render_report(evaluation, make_facts())
    rolled = dataclasses.replace(
        evaluation,
        rollout=RolloutErrors(frames=5, duration=2.5, trajectories=12, lost=lost, last=last, persistence=0.8),
        arrays=evaluation.arrays
        | {"rollout_time": np.linspace(0, 2.5, 6), "rollout_error": errors, "rollout_persistence": np.full(6, 0.8)},
    )
    page = render_report(rolled, make_facts())
    assert page.count("<svg") == render_report(evaluation, make_facts()).count("<svg") + 1
    assert "How far does a roll-out carry?" in page
    assert ("ran into NaN or infinity" in page) == (lost > 0)
    assert ("Rolled out over 5\N{NO-BREAK SPACE}frames its median error is 5.0" in page) == (lost == 0)


def test_other_batch_sizes_have_a_table_where_the_noise_scale_was_measured():
    assert "Other batch sizes" not in render_report(make_evaluation(), make_facts())
    advice = BatchAdvice(20, NoiseScale(60.0, 1.0, 50.0, 80.0, 9), steps=400, seconds=100.0)
    page = render_report(make_evaluation(), make_facts(batches=advice))
    assert "gradient noise scale 60 (50 to 80" in page
    assert "beyond a batch of 240 (200 to 320)" in page
    # S = 100 (1 + 60 / B): 700 at 10, 400 at 20, 250 at 40, 175 at 80
    for batch, steps in ((10, 700), (20, 400), (40, 250), (80, 175)):
        assert re.search(rf'scope="row">{batch}</th><td[^>]*>{steps}</td>', page)
    assert "Other batch sizes" in render_report(
        make_evaluation(), make_facts(batches=BatchAdvice(20, NoiseScale(1.0, -1.0, 50.0, float("inf"), 9), 400))
    )
