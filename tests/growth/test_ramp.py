"""Fresh blocks that come in little by little: nothing at first, all at the end, no trace left."""

import itertools

import pytest
import torch
from growing_models import OPERATORS, llama_like

from fieldwright.errors import InputError
from fieldwright.growth import Ramp, RandomBlocks, grow

FIELDS = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def built(name):
    torch.manual_seed(0)
    return llama_like(2).double() if name == "llama" else OPERATORS[name]().double()


@pytest.mark.parametrize("name", ["llama", *OPERATORS])
def test_a_ramp_goes_from_the_source_to_the_whole_model(name):
    source = built(name).eval()
    inputs = torch.tensor([[1, 2, 3]]) if name == "llama" else FIELDS

    def outputs(model):
        found = model(inputs)
        return getattr(found, "logits", found)

    grown = grow(source, RandomBlocks(2))
    model = grown.model.eval()
    ramp = Ramp(model, grown.plan, steps=4)
    torch.testing.assert_close(outputs(model), outputs(source), rtol=1e-12, atol=1e-12)
    seen = [outputs(model).detach()]
    for _ in range(4):
        ramp.advance()
        seen.append(outputs(model).detach())
    assert ramp.factor == 1
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(seen))
    whole = grow(source, RandomBlocks(2, ramped=False)).model.eval()
    torch.testing.assert_close(seen[-1], outputs(whole), rtol=1e-10, atol=1e-12)
    ramp.advance()
    assert torch.equal(outputs(model), seen[-1])


def test_a_ramp_of_no_steps_or_on_another_model_is_refused():
    grown = grow(built("resnet"), RandomBlocks(2))
    with pytest.raises(InputError, match="1 or more"):
        Ramp(grown.model, grown.plan, steps=0)
    with pytest.raises(InputError, match="lacks"):
        Ramp(built("fourier"), grown.plan, steps=3)
