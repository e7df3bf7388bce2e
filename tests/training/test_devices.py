import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.training import launch_fabric
from fieldwright.training.devices import total


def test_one_process_on_the_cpu():
    fabric = launch_fabric("cpu")
    assert (fabric.world_size, fabric.global_rank, fabric.device) == (1, 0, torch.device("cpu"))
    fabric.barrier()
    values = torch.arange(3.0)
    assert total(fabric, values) is values


def test_auto_takes_a_gpu_where_there_is_one():
    assert launch_fabric("auto").device.type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("device", ["gpu", "cpu:1", "cuda:x", "", "cuda:-1"])
def test_unknown_devices_are_refused(device):
    with pytest.raises(InputError, match="allowed are auto, cpu, cuda, mps"):
        launch_fabric(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="no CUDA device"):
        launch_fabric("cuda")
