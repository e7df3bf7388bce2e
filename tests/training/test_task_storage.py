import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from task_modules import MODULES, built, perceptron, sample_pairs
from test_tasks import RULES, learned

from fieldwright.errors import DataError, InputError
from fieldwright.training.task_storage import (
    SparseLinear,
    certify,
    export_task,
    load_certificates,
    load_tasks,
    save_tasks,
)


def _output(operator, task, name):
    operator.use_task(task)
    operator.eval()
    with torch.no_grad():
        return operator(sample_pairs(name, int(task[-1]))[0])


@pytest.mark.parametrize("name", MODULES)
def test_every_task_comes_back_in_all_bits(name, tmp_path):
    operator, outputs = learned(name, tasks=2)
    operator.finish()
    save_tasks(operator, tmp_path / "tasks.safetensors")
    loaded = load_tasks(tmp_path / "tasks.safetensors", built(name, seed=5))
    assert loaded.names == operator.names
    for task, before in outputs.items():
        assert torch.equal(_output(loaded, task, name), before)


def test_a_loaded_network_learns_the_next_task_as_the_saved_one_does(tmp_path):
    operator, _ = learned("perceptron")
    operator.finish()
    save_tasks(operator, tmp_path / "tasks.safetensors")
    loaded = load_tasks(tmp_path / "tasks.safetensors", built("perceptron", seed=5))
    for one in (operator, loaded):
        one.begin_task("next", RULES)
    ours, theirs = (one.generations[0].state_dict() for one in (operator, loaded))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_only_what_is_alive_is_stored(tmp_path):
    operator, _ = learned("perceptron", tasks=2)
    operator.finish()
    save_tasks(operator, tmp_path / "tasks.safetensors")
    tensors = load_file(tmp_path / "tasks.safetensors")
    for key, owned in operator.owned().items():
        assert tensors[f"values/{key}"].numel() == int(owned.sum()) < owned.numel()
        assert tensors[f"masks/task0/{key}"].nbytes == -(-owned.numel() // 8)


def test_a_grown_network_is_loaded_on_both_modules(tmp_path):
    operator, outputs = learned("perceptron", tasks=2)
    operator.grow(perceptron(56))
    operator.begin_task("wide", RULES)
    operator.finish()
    save_tasks(operator, tmp_path / "tasks.safetensors")
    with pytest.raises(DataError, match="grew 1 times; 2 modules are needed"):
        load_tasks(tmp_path / "tasks.safetensors", perceptron())
    loaded = load_tasks(tmp_path / "tasks.safetensors", perceptron(), perceptron(56))
    for task, before in outputs.items():
        assert torch.equal(_output(loaded, task, "perceptron"), before)
    assert loaded.digest("wide") == operator.digest("wide")


def test_a_file_that_does_not_fit_or_is_damaged_is_refused(tmp_path):
    operator, _ = learned("perceptron", tasks=2)
    path = tmp_path / "tasks.safetensors"
    with pytest.raises(InputError, match="task 'task1' is open"):
        save_tasks(operator, path)
    operator.finish()
    save_tasks(operator, path)
    with pytest.raises(DataError, match="no such file"):
        load_tasks(tmp_path / "nothing", perceptron())
    with pytest.raises(DataError, match="holds masks of other weights"):
        load_tasks(path, perceptron(48))
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors["values/2.weight"][3] += 1e-6
    save_file(tensors, path, metadata)
    with pytest.raises(DataError, match=r"tasks task\d.* are not what they were"):
        load_tasks(path, perceptron())
    del tensors["values/2.weight"]
    save_file(tensors, path, metadata)
    with pytest.raises(DataError, match="does not fit the module"):
        load_tasks(path, perceptron())
    save_file(tensors, path)
    with pytest.raises(DataError, match="holds no tasks"):
        load_tasks(path, perceptron())
    path.write_bytes(b"rubbish")
    with pytest.raises(DataError, match="not readable"):
        load_tasks(path, perceptron())


def test_certificates_hold_until_something_changes(tmp_path):
    operator, _ = learned("perceptron", tasks=2)
    operator.finish()
    probe = torch.randn(4, 16)
    certificates = [certify(operator, name, probe) for name in operator.names]
    assert operator.current == "task1"
    save_tasks(operator, tmp_path / "tasks.safetensors", certificates=certificates)
    loaded = load_tasks(tmp_path / "tasks.safetensors", perceptron())
    assert load_certificates(tmp_path / "tasks.safetensors") == certificates
    assert [certify(loaded, name, probe) for name in loaded.names] == certificates
    assert certify(loaded, "task0", probe + 1).outputs != certificates[0].outputs
    with torch.no_grad():
        loaded.record("task0").state["0.bias"][0] += 1e-6
    assert certify(loaded, "task0", probe).digest != certificates[0].digest
    assert certify(loaded, "task1", probe) == certificates[1]
    assert json.dumps([vars(certificate) for certificate in certificates])


@pytest.mark.parametrize("name", MODULES)
def test_a_task_is_taken_out_as_a_module_of_its_own(name):
    operator, outputs = learned(name, tasks=2)
    module = export_task(operator, "task0")
    assert type(module) is type(built(name))
    with torch.no_grad():
        assert torch.equal(module(sample_pairs(name, 0)[0]), outputs["task0"])
    assert operator.current == "task1"
    module.load_state_dict({key: torch.zeros_like(value) for key, value in module.state_dict().items()})
    assert torch.equal(_output(operator, "task0", name), outputs["task0"])


def test_a_sparse_task_stores_what_is_not_zero():
    operator, outputs = learned("perceptron", tasks=2)
    module = export_task(operator, "task0", "sparse")
    layers = [layer for layer in module if isinstance(layer, SparseLinear)]
    assert len(layers) == 3
    assert layers[0].weight._nnz() == int((export_task(operator, "task0")[0].weight != 0).sum())
    with torch.no_grad():
        assert torch.allclose(module(sample_pairs("perceptron", 0)[0]), outputs["task0"], atol=1e-5)
        assert module(torch.zeros(2, 3, 16)).shape == (2, 3, 16)
    with pytest.raises(InputError, match="form: 'csr'; allowed are dense, sparse"):
        export_task(operator, "task0", "csr")
