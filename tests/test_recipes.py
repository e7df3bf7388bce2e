"""Recipes: what they say, how overrides change them, and how a wrong one is refused."""

import textwrap

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.errors import RecipeError
from fieldwright.operators import OPERATORS
from fieldwright.problems import PROBLEMS, Darcy
from fieldwright.recipe import check_recipe, load_recipe, packaged_recipes, read_recipe
from fieldwright.settings import checked_settings

SCALARS = st.one_of(
    st.integers(), st.floats(allow_nan=False), st.booleans(), st.none(), st.text("abcxyz-_:[]{}'\" #", max_size=12)
)


def sentence(error: RecipeError) -> str:
    text = str(error)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", ["darcy", "darcy-lognormal", "pays", "poisson"])
def test_packaged_recipes_load_and_say_what_they_are(name):
    recipe = load_recipe(name)
    assert recipe.problem.kind in PROBLEMS
    assert recipe.operator.kind in OPERATORS
    assert len(packaged_recipes()[name]) > 20


@pytest.mark.parametrize("name", ["darcy", "darcy-lognormal", "pays", "poisson"])
def test_resolved_yaml_reads_back_as_the_same_recipe(name):
    recipe = load_recipe(name, ["training.steps=60", "problem.resolution=32", "seed=3"])
    assert check_recipe(yaml.safe_load(recipe.to_yaml())) == recipe


def test_resolved_recipe_holds_every_setting_of_the_problem():
    recipe = load_recipe("darcy", ["problem.high=9"])
    assert recipe.problem.settings == Darcy(high=9.0).settings()


def test_overrides_reach_their_keys():
    recipe = load_recipe(
        "darcy",
        ["problem.resolution=32", "data.train=64", "data.test=16", "data.solver=scipy", "training.steps=60",
         "training.seconds=2.5", "training.batch_size=4", "seed=7", "evaluation.resolutions=[16, 48]"],
    )  # fmt: skip
    assert recipe.build_problem().grid.shape == (32, 32)
    assert recipe.data.counts == {"train": 64, "valid": 100, "test": 16}
    assert (recipe.data.solver, recipe.seed, recipe.evaluation.resolutions) == ("scipy", 7, [16, 48])
    (phase,) = recipe.training.to_phases()
    assert (phase.steps, phase.seconds, phase.batch_size) == (60, 2.5, 4)


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "0.001", "1E-3"])
def test_numbers_are_read_as_people_write_them(text):
    assert load_recipe("darcy", [f"training.learning_rate={text}"]).training.learning_rate == 1e-3


def test_another_kind_starts_from_its_own_defaults():
    recipe = load_recipe("darcy-lognormal", ["problem.kind=poisson", "problem.resolution=16"])
    assert recipe.problem.settings == PROBLEMS["poisson"](resolution=16).settings()  # type: ignore[call-arg]
    other = load_recipe("darcy", ["operator.kind=fourier"])
    assert "levels" not in other.operator.settings


def test_walls_of_the_operator_follow_from_the_problem_unless_set():
    assert "boundary" not in load_recipe("darcy").operator.settings
    assert load_recipe("darcy", ["operator.boundary=periodic"]).operator.settings["boundary"] == "periodic"


def test_list_of_phases_replaces_the_one_phase():
    phases = "[{steps: 3, objective: h1}, {name: finish, seconds: 1}]"
    first, second = load_recipe("darcy", [f"training.phases={phases}"]).training.to_phases()
    assert (first.steps, first.objective, second.name, second.steps) == (3, "h1", "finish", None)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.stps=60", ["training.stps", "did you mean 'steps'"]),
        ("training.steps=many", ["training.steps", "'many'", "whole number"]),
        ("training.steps=true", ["training.steps", "True", "whole number"]),
        ("training.steps=0", ["training.steps", "greater than 0"]),
        ("training.learning_rate=.inf", ["training.learning_rate", "finite"]),
        ("training.objective=l3", ["training.objective", "'l3'", "l2"]),
        ("training.phases=[{steps: 3, nme: x}]", ["training.phases.0.nme", "did you mean 'name'"]),
        ("problem.resolutin=3", ["problem.resolutin", "did you mean 'resolution'"]),
        ("problem.resolution=2", ["problem", "resolution 2", "at least 4"]),
        ("problem.coefficient=two", ["problem.coefficient", "did you mean 'two-phase'", "log-normal"]),
        ("problem.kind=darci", ["problem.kind", "did you mean 'darcy'", "module:Class"]),
        ("problem.kind=no_such_module:X", ["no_such_module", "ModuleNotFoundError"]),
        ("problem.kind=fieldwright.problems:Field", ["'Field' is not a Problem"]),
        ("operator.in_channels=3", ["operator.in_channels", "no such key"]),
        ("data.solver=multigird", ["data.solver", "multigird", "scipy"]),
        ("data.rtol=2", ["data.rtol", "less than 1"]),
        ("dta.train=1", ["dta", "did you mean 'data'"]),
        ("training.steps.x=3", ["training.steps is", "has no keys"]),
        ("training.steps", ["write key=value"]),
        ("training.steps=[", ["not YAML"]),
        ("seed=2024-01-01", ["seed", "2024-01-01"]),
        ("problem=3", ["problem", "a mapping"]),
    ],
)
def test_wrong_override_is_refused_in_one_sentence(override, words):
    with pytest.raises(RecipeError) as caught:
        load_recipe("darcy", [override])
    for word in words:
        assert word in sentence(caught.value)


@settings(max_examples=80, deadline=None)
@given(
    key=st.sampled_from(
        ["problem.resolution", "problem.tau", "problem.walls", "data.train", "data.rtol", "operator.width",
         "training.steps", "training.ema", "training.precision", "evaluation.shifts", "seed", "problem"]
    ),
    value=SCALARS,
)  # fmt: skip
def test_any_override_is_either_taken_or_refused_in_one_sentence(key, value):
    try:
        recipe = load_recipe("darcy", [f"{key}={value}"])
    except RecipeError as error:
        sentence(error)
    else:
        assert check_recipe(yaml.safe_load(recipe.to_yaml())) == recipe


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(SCALARS, lambda below: st.dictionaries(st.text("abkz.", min_size=1, max_size=4), below), max_leaves=6)
)
def test_any_tree_is_refused_in_one_sentence(tree):
    with pytest.raises(RecipeError) as caught:
        check_recipe({"problem": tree})
    sentence(caught.value)


@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=60))
def test_any_file_is_refused_in_one_sentence(tmp_path_factory, text):
    file = tmp_path_factory.mktemp("recipes") / "mine.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(RecipeError) as caught:
        load_recipe(file)
    sentence(caught.value)


def test_own_file_works_wherever_a_name_does(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("problem: {kind: poisson}\noperator: {kind: multigrid}\ntraining: {steps: 5}\n")
    assert load_recipe(file).problem.kind == "poisson"
    assert load_recipe(str(file), ["training.steps=6"]).training.steps == 6


@pytest.mark.parametrize("name", ["darci", "runs/none.yaml", "."])
def test_recipe_that_is_not_there_is_refused(name):
    with pytest.raises(RecipeError, match=r"darci|no such file|not a file"):
        read_recipe(name)


def test_users_problem_and_network_are_found_beside_the_recipe(tmp_path, monkeypatch):
    (tmp_path / "my_classes.py").write_text(
        textwrap.dedent(
            """
            from dataclasses import dataclass
            import torch
            from fieldwright.problems import Poisson

            @dataclass(frozen=True)
            class Stronger(Poisson):
                strength: float = 2.0

            class Net(torch.nn.Module):
                def __init__(self, in_channels, out_channels, dimension, hidden: int = 4, dtype=torch.float32):
                    super().__init__()
            """
        )
    )
    monkeypatch.chdir(tmp_path)
    chosen = ["problem.kind=my_classes:Stronger", "problem.strength=3.5", "operator.kind=my_classes:Net"]
    recipe = load_recipe("poisson", chosen)
    assert recipe.build_problem().strength == 3.5  # type: ignore[attr-defined]
    assert recipe.operator.settings == {"hidden": 4}
    with pytest.raises(RecipeError, match=r"operator.hiden: no such key; did you mean 'hidden'"):
        load_recipe("poisson", [*chosen, "operator.hiden=5"])


def test_settings_of_a_class_that_takes_anything_are_passed_on():
    class Open:
        def __init__(self, width: int = 3, **more):
            pass

    assert checked_settings(Open, {"depth": 2}, path="operator") == {"width": 3, "depth": 2}


def test_a_problem_with_a_setting_named_kind_is_refused_in_one_sentence(in_tmp):
    (in_tmp / "kinds.py").write_text(
        textwrap.dedent("""
        from dataclasses import dataclass
        from fieldwright.problems import Darcy

        @dataclass(frozen=True)
        class Sorted(Darcy):
            kind: str = "sand"
        """)
    )
    with pytest.raises(RecipeError, match="Sorted has a setting of that name") as caught:
        load_recipe("darcy", ["problem.kind=kinds:Sorted"])
    sentence(caught.value)


@pytest.mark.parametrize("name", sorted(PROBLEMS))
def test_every_problem_is_a_recipe_of_its_own(name):
    recipe = load_recipe(name)
    assert recipe.problem.kind == name
    assert recipe.data.rtol == recipe.build_problem().rtol


ODD_VALUES = ["0", "-1", "1.0e+300", "1.0e-300", "100001", "word", "null", "[2, 1]", "[]"]


@pytest.mark.parametrize("name", sorted(PROBLEMS))
def test_odd_settings_of_every_problem_are_taken_or_refused_in_one_sentence(name):
    for key in PROBLEMS[name].__dataclass_fields__:
        for value in ODD_VALUES:
            try:
                load_recipe(name, [f"problem.{key}={value}"])
            except RecipeError as error:
                sentence(error)
