"""Plans as data: maps against naive loops, moments against the chain rule, draws, JSON, and what is refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fieldwright.errors import DataError
from fieldwright.growth import Axis, Copy, Draw, GrowthPlan, StateRule, TensorMap
from fieldwright.growth.plan import fresh_like


@given(st.lists(st.tuples(st.integers(-1, 3), st.floats(-2, 2)), min_size=1, max_size=6))
def test_an_axis_map_is_the_loop_over_its_entries(entries):
    axis = Axis(tuple(i for i, _ in entries), tuple(g for _, g in entries))
    source = torch.arange(8.0, dtype=torch.float64).reshape(4, 2)
    expected = torch.stack([source[i] * g if i >= 0 else torch.zeros(2, dtype=torch.float64) for i, g in entries])
    assert torch.equal(axis.apply(source, 0), expected)
    gains = torch.tensor([g if i >= 0 else 0.0 for i, g in entries], dtype=torch.float64)
    squared = torch.stack([source[max(i, 0)] for i, _ in entries]) * gains.square()[:, None]
    torch.testing.assert_close(axis.apply(source, 0, squared=True), squared, rtol=1e-14, atol=0)


def test_a_dense_axis_is_a_matrix_product_on_any_axis():
    rows = torch.randn(3, 4, dtype=torch.float64)
    axis = Axis(rows=tuple(tuple(row) for row in rows.tolist()))
    source = torch.randn(2, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(axis.apply(source, 1), torch.einsum("ij,ajb->aib", rows, source))
    torch.testing.assert_close(axis.apply(source, 1, squared=True), torch.einsum("ij,ajb->aib", rows**2, source))


def test_terms_add_up_and_boxes_hold_their_draws():
    one = TensorMap((2, 3), (Copy("a", 2.0), Copy("b", -1.0), Draw("constant", 5.0, ((1, 2), (0, 2)))))
    a, b = torch.randn(2, 3), torch.randn(2, 3)
    box = torch.tensor([[0.0, 0, 0], [5, 5, 0]])
    torch.testing.assert_close(one.value({"a": a, "b": b}, "w"), 2 * a - b + box)


def test_draws_depend_on_seed_and_name_and_not_on_the_source():
    one = TensorMap((4, 3), (Copy("a", 0.0), Draw("normal", 0.5)))
    first = one.value({"a": torch.randn(4, 3)}, "w", seed=1)
    assert torch.equal(first, one.value({"a": torch.randn(4, 3)}, "w", seed=1))
    assert not torch.equal(first, one.value({"a": torch.randn(4, 3)}, "v", seed=1))
    assert not torch.equal(first, one.value({"a": torch.randn(4, 3)}, "w", seed=2))


def test_moments_follow_the_gradient_and_fresh_entries_get_the_median():
    gradient = TensorMap((5,), (Copy("w", axes={0: Axis((0, 0, 1, 2, -1), (0.25, 0.75, 1.0, 1.0, 1.0))}),))
    state = {
        "w": {"exp_avg": torch.tensor([1.0, 2, 3]), "exp_avg_sq": torch.tensor([4.0, 5, 9]), "step": torch.tensor(7.0)}
    }
    found = StateRule(gradient).state(state, "v")
    torch.testing.assert_close(found["exp_avg"], torch.tensor([0.25, 0.75, 2, 3, 0]))
    torch.testing.assert_close(found["exp_avg_sq"], torch.tensor([4 * 0.0625, 4 * 0.5625, 5, 9, 5]))
    assert found["step"] == 7
    second = StateRule(gradient, "second-only").state(state, "v")
    assert not second["exp_avg"].any()
    assert torch.equal(second["exp_avg_sq"], found["exp_avg_sq"])
    assert StateRule(gradient, "reset").state(state, "v") is None


def test_a_new_tensor_starts_with_the_median_second_moment_of_its_kind():
    rule = StateRule(fresh_like("w", 2, (3, 2)))
    state = {
        "w": {
            "exp_avg": torch.ones(3, 2),
            "exp_avg_sq": torch.arange(1.0, 7.0).reshape(3, 2),
            "step": torch.tensor(1.0),
        }
    }
    found = rule.state(state, "new")
    assert not found["exp_avg"].any()
    assert torch.equal(found["exp_avg_sq"], torch.full((3, 2), 3.0))


def test_what_is_no_moment_of_an_entry_resets_the_state():
    rule = StateRule(TensorMap.clone("w", (3, 2)))
    assert rule.state({"w": {"left": torch.eye(3), "right": torch.eye(2)}}, "w") is None


def plan() -> GrowthPlan:
    maps = {"w": TensorMap((2,), (Copy("w", 0.5, {0: Axis((0, 0), (1.0, 2.0))}), Draw("uniform", 0.1, ((0, 1),))))}
    return GrowthPlan({"kind": "test"}, {"layers": 4}, maps, states={"w": StateRule(maps["w"], "second-only")}, seed=3)


def test_a_plan_survives_json_and_does_the_same():
    again = GrowthPlan.from_json(plan().to_json())
    assert again.to_json() == plan().to_json()
    source = {"w": torch.randn(1)}
    assert torch.equal(again.weights(source)["w"], plan().weights(source)["w"])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"parameters": {"w": 1}, "buffers": {}}'])
def test_a_text_that_is_no_plan_is_refused(text):
    with pytest.raises(DataError, match="not a plan"):
        GrowthPlan.from_json(text)


@pytest.mark.parametrize("wrong", [{"w": torch.tensor([torch.nan])}, {"v": torch.ones(1)}])
def test_weights_that_are_not_finite_or_not_there_are_refused(wrong):
    with pytest.raises(DataError, match="'w'"):
        plan().weights(wrong)
