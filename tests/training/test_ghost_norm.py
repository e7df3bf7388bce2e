"""Ghost batch normalisation against a plain loop of batch normalisation over the ghosts."""

import copy

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import tiny_data
from torch import nn

from fieldwright.errors import InputError
from fieldwright.training.ghost_norm import (
    GHOSTS,
    GhostBatchNorm,
    GhostBatchNorm1d,
    GhostBatchNorm2d,
    GhostBatchNorm3d,
    with_batch_norm,
    with_ghost_norm,
)
from fieldwright.training.loop import train
from fieldwright.training.phases import Phase

SPACES = {nn.BatchNorm1d: (5,), nn.BatchNorm2d: (3, 4), nn.BatchNorm3d: (2, 3, 2)}


def members(batch: int, size: int) -> list[torch.Tensor]:
    """The samples of each ghost, as the module's docstring deals them: first those of the larger ghosts."""
    ghosts = max(batch // size, 1)
    larger, few = batch % ghosts, batch // ghosts
    first, rest = torch.arange(larger * (few + 1)), torch.arange(larger * (few + 1), batch)
    return [first[i::larger] for i in range(larger)] + [rest[i :: ghosts - larger] for i in range(ghosts - larger)]


def ghost_by_ghost(layer: nn.Module, fields: torch.Tensor, size: int) -> torch.Tensor:
    """The definition: one batch normalisation after another."""
    output = torch.empty_like(fields)
    for chosen in members(len(fields), size):
        output[chosen] = layer(fields[chosen])
    return output


def pair(plain: nn.Module, size: int) -> tuple[nn.Module, nn.Module]:
    """A layer with weights and running statistics that are not the initial ones, and its ghosts."""
    plain = plain.double()
    with torch.no_grad():
        for tensor in (*plain.parameters(), *plain.buffers()):
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
    return plain, with_ghost_norm(copy.deepcopy(plain), size)


@given(
    kind=st.sampled_from(list(SPACES)),
    batch=st.integers(2, 23),
    size=st.integers(2, 9),
    momentum=st.sampled_from([0.1, 0.7, None]),
    affine=st.booleans(),
    tracked=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_outputs_gradients_and_statistics_equal_batch_normalisation_ghost_by_ghost(
    kind: type[nn.Module], batch: int, size: int, momentum: float | None, affine: bool, tracked: bool
) -> None:
    plain, ghost = pair(kind(4, momentum=momentum, affine=affine, track_running_stats=tracked), size)
    fields = torch.randn(batch, 4, *SPACES[kind], generator=torch.Generator().manual_seed(batch)).double()
    pull = torch.randn(fields.shape, generator=torch.Generator().manual_seed(1)).double()
    one, two = fields.clone().requires_grad_(), fields.clone().requires_grad_()
    for _ in range(2):
        expected, found = ghost_by_ghost(plain, one, size), ghost(two)
        (expected * pull).sum().backward()
        (found * pull).sum().backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(two.grad, one.grad)
    for a, b in zip(ghost.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    for a, b in zip(ghost.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(a, b)
    ghost.load_state_dict(plain.state_dict())
    assert torch.equal(ghost.eval()(fields), plain.eval()(fields))


def test_every_ghost_has_mean_zero_and_variance_one_and_at_least_the_asked_size() -> None:
    fields = 3 + 2 * torch.randn(100, 2, 8, generator=torch.Generator().manual_seed(0))
    output = GhostBatchNorm1d(2, eps=1e-9, size=12)(fields)
    groups = members(100, 12)
    assert {len(group) for group in groups} == {12, 13}
    assert len(groups) == 8
    for group in groups:
        torch.testing.assert_close(output[group].mean((0, 2)), torch.zeros(2), rtol=0, atol=1e-5)
        torch.testing.assert_close(output[group].var((0, 2), unbiased=False), torch.ones(2), rtol=1e-4, atol=0)


def test_running_statistics_settle_on_those_of_the_data() -> None:
    layer = GhostBatchNorm1d(3, size=50)
    generator = torch.Generator().manual_seed(2)
    for _ in range(20):
        layer(4 + 3 * torch.randn(1000, 3, generator=generator))
    torch.testing.assert_close(layer.running_mean, torch.full((3,), 4.0), rtol=0, atol=0.4)
    torch.testing.assert_close(layer.running_var, torch.full((3,), 9.0), rtol=0, atol=1.5)


def test_one_ghost_is_batch_normalisation() -> None:
    plain, ghost = pair(nn.BatchNorm2d(3), 32)
    fields = torch.randn(63, 3, 2, 2).double()  # less than two sizes
    torch.testing.assert_close(ghost(fields), plain(fields))


def test_a_contiguous_batch_is_read_where_it_lies() -> None:
    layer = GhostBatchNorm2d(3, size=4)
    seen = []
    original = nn.functional.batch_norm

    def watch(fields: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(fields)
        return original(fields, *rest)

    fields = torch.randn(8, 3, 2, 2)
    nn.functional.batch_norm = watch
    try:
        layer(fields)
    finally:
        nn.functional.batch_norm = original
    assert seen[0].data_ptr() == fields.data_ptr()
    assert seen[0].shape == (4, 6, 2, 2)


def test_any_memory_order_gives_the_same() -> None:
    layer = GhostBatchNorm2d(3, size=4)
    fields = torch.randn(12, 3, 5, 2)
    torch.testing.assert_close(layer(fields.to(memory_format=torch.channels_last)), layer(fields))


@pytest.mark.parametrize("batch", [16, 19])
def test_compiles_without_a_break(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # what the compiler traces is the bare code
    layer = GhostBatchNorm2d(3, size=4)
    explanation = torch._dynamo.explain(layer)(torch.randn(batch, 3, 2, 2))
    assert explanation.graph_break_count == 0
    compiled, plain = copy.deepcopy(layer), copy.deepcopy(layer)
    fields = torch.randn(batch, 3, 2, 2)
    found = torch.compile(compiled, fullgraph=True, backend="aot_eager")(fields)
    torch.testing.assert_close(found, plain(fields))
    torch.testing.assert_close(compiled.running_var, plain.running_var)


def network() -> nn.Module:
    shared = nn.BatchNorm1d(4, affine=False)
    return nn.ModuleDict(
        {
            "one": nn.BatchNorm1d(4, momentum=None),
            "two": nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False), nn.BatchNorm3d(4)),
            "three": nn.SyncBatchNorm(4),
            "four": nn.ModuleList([shared, shared]),
        }
    )


def test_there_and_back_keeps_parameters_names_and_settings() -> None:
    plain = network().eval()
    texts = [repr(layer) for layer in plain.modules()]
    parameters, buffers = dict(plain.named_parameters()), dict(plain.named_buffers())
    ghosts = with_ghost_norm(plain, 16)
    assert {type(layer) for layer in ghosts.modules()} >= set(GHOSTS.values())
    assert all(ghosts.get_parameter(name) is p for name, p in parameters.items())
    assert ghosts.state_dict().keys() == network().state_dict().keys()
    assert ghosts["four"][0] is ghosts["four"][1]
    assert not any(layer.training for layer in ghosts.modules())
    back = with_batch_norm(ghosts)
    assert [repr(layer) for layer in back.modules()] == texts
    assert all(back.get_buffer(name) is b for name, b in buffers.items())
    network().load_state_dict(ghosts.state_dict())


def test_a_lone_layer_is_exchanged_too_and_a_ghost_takes_another_size() -> None:
    ghost = with_ghost_norm(nn.BatchNorm2d(3, eps=1e-3), 8)
    assert isinstance(ghost, GhostBatchNorm2d)
    assert (with_ghost_norm(ghost, 16).size, ghost.eps) == (16, 1e-3)
    assert type(with_batch_norm(ghost)) is nn.BatchNorm2d


def test_half_precision_keeps_running_statistics_in_single() -> None:
    layer = GhostBatchNorm1d(3, size=8)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(torch.randn(32, 3, 4).bfloat16())
    assert output.dtype == torch.bfloat16
    assert layer.running_var.dtype == torch.float32


def test_a_phase_prepares_it_and_what_it_trained_loads_into_the_plain_operator(tmp_path) -> None:
    def operator() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.GELU(), nn.Conv2d(4, 1, 1))

    phase = Phase(steps=6, batch_size=8, prepare={"kind": "ghost-norm", "size": 2}, schedule="constant")
    trained = train(operator(), [phase], tiny_data(), directory=tmp_path, seed=0).operator
    again = train(operator(), [phase], tiny_data(), directory=tmp_path, seed=0).operator  # from the checkpoint
    assert int(trained[1].num_batches_tracked) == 24
    plain = operator()
    fields = torch.randn(3, 1, 8, 8)
    for other in (plain, again):
        other.load_state_dict(trained.state_dict())
        assert torch.equal(other.eval()(fields), trained.eval()(fields))


class OwnNorm(nn.BatchNorm2d):
    pass


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: GhostBatchNorm1d(3, size=1), "at least two samples"),
        (lambda: GhostBatchNorm1d(3, size=2)(torch.zeros(1, 3)), "one value"),
        (lambda: GhostBatchNorm2d(3)(torch.zeros(8, 3, 4)), "4 axes"),
        (lambda: GhostBatchNorm3d(3)(torch.zeros(8, 3, 4, 4)), "5 axes"),
        (lambda: GhostBatchNorm(3)(torch.zeros(8)), "at least 2 axes"),
        (lambda: with_ghost_norm(nn.Linear(2, 2), 8), "no BatchNorm found"),
        (lambda: with_batch_norm(nn.BatchNorm1d(2)), "no GhostBatchNorm found"),
        (lambda: with_ghost_norm(nn.Sequential(OwnNorm(2)), 8), "OwnNorm is not known"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(call, word: str) -> None:
    with pytest.raises(InputError, match=word):
        call()
