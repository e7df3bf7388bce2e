"""Growth between the steps of a parallel training: two processes over gloo end with what one process has."""

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from fieldwright.errors import InputError
from fieldwright.growth import RandomBlocks, Stack, grow
from fieldwright.operators import FourierOperator

FIELDS = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
GROWTHS = {"stack": Stack(2), "random": RandomBlocks(2, ramped=False)}
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def operator():
    torch.manual_seed(0)
    return FourierOperator(1, 1, modes=4, width=4, layers=1)  # torch shards contiguous weights alone


def adam(model):
    return torch.optim.Adam(model.parameters(), 1e-2)


def step(model, optimizer, fields):
    optimizer.zero_grad()
    model(fields).square().mean().backward()
    optimizer.step()


def alone(growth):
    """One process on all samples: two steps, growth, two steps."""
    model = operator()
    optimizer = adam(model)
    for _ in range(2):
        step(model, optimizer, FIELDS)
    grown = grow(model, growth, optimizer=optimizer, seed=7)
    for _ in range(2):
        step(grown.model, grown.optimizer, FIELDS)
    return grown.model.state_dict()


def replicated(growth, mine):
    """Data parallel: the module within is grown in every process, then wrapped again."""
    wrapped = DistributedDataParallel(operator())
    optimizer = adam(wrapped)
    for _ in range(2):
        step(wrapped, optimizer, mine)
    with pytest.raises(InputError, match="unwrap"):
        grow(wrapped, growth)
    grown = grow(wrapped.module, growth, optimizer=optimizer, seed=7)
    wrapped = DistributedDataParallel(grown.model)
    for _ in range(2):
        step(wrapped, grown.optimizer, mine)
    return wrapped.module.state_dict()


def sharded(growth, mine):
    """Sharded: the plan of a plain twin on whole states by name, loaded into shards of the grown model."""
    model = fully_shard(operator())
    optimizer = adam(model)
    for _ in range(2):
        step(model, optimizer, mine)
    with pytest.raises(InputError, match="unwrap"):
        grow(model, growth)
    twin = operator()
    twin.load_state_dict(whole(get_model_state_dict(model, options=WHOLE)))
    states = whole(get_optimizer_state_dict(model, optimizer, options=WHOLE))["state"]
    grown = grow(twin, growth, optimizer_state=states, seed=7)
    plain = adam(grown.model)
    for name, parameter in grown.model.named_parameters():
        plain.state[parameter] = grown.optimizer_state[name]
    model_state = get_model_state_dict(grown.model)
    optimizer_state = get_optimizer_state_dict(grown.model, plain)
    model = fully_shard(grow(operator(), growth, seed=7).model)
    optimizer = adam(model)
    options = StateDictOptions(full_state_dict=True)
    set_model_state_dict(model, model_state, options=options)
    set_optimizer_state_dict(model, optimizer, optimizer_state, options=options)
    for _ in range(2):
        step(model, optimizer, mine)
    return whole(get_model_state_dict(model, options=WHOLE))


def whole(state):
    """What the first process gathered, for all of them."""
    box = [state]
    dist.broadcast_object_list(box, 0)
    return box[0]


def work(rank, way, growth, folder):
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = {"replicated": replicated, "sharded": sharded}[way](GROWTHS[growth], FIELDS.chunk(2)[rank])
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("growth", GROWTHS)
@pytest.mark.parametrize("way", ["replicated", "sharded"])
def test_two_processes_grow_what_one_process_grows(tmp_path, way, growth):
    mp.start_processes(work, (way, growth, str(tmp_path)), nprocs=2, start_method="fork")
    expected = alone(GROWTHS[growth])
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first.keys() == second.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, rtol=1e-4, atol=1e-6)
