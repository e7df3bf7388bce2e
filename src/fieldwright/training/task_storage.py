"""A network of many tasks on disk, and one task taken out of it.

One file in safetensors' format holds what is alive: of every masked weight the entries that a task owns, in the order
of their places, masks at one bit each, and what is not masked of each task. Entries that nobody owns are not stored.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fieldwright.atomic import write_atomically
from fieldwright.errors import DataError, InputError
from fieldwright.training.task_records import TaskRecord, TensorTable
from fieldwright.training.tasks import ContinualOperator


@dataclass(frozen=True)
class Certificate:
    """That a task gave certain bits: of its weights (``digest``) and of its ``outputs`` on a probe.

    Outputs are of a device, a number type and a number of threads: with others kernels may sum in other orders.
    """

    task: str
    digest: str
    outputs: str
    setting: str


def certify(operator: ContinualOperator, task: str, probe: Tensor) -> Certificate:
    """The certificate of a finished task on a probe, inputs of the operator. The task in use stays in use.

    Errors: `InputError` for a task that is not there.
    """
    used, training = operator.current, operator.training
    operator.use_task(task)
    operator.eval()
    with torch.no_grad():
        outputs = operator(probe).detach().cpu().contiguous()
    operator.train(training)
    if used is not None:
        operator.use_task(used)
    found = hashlib.sha256(outputs.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
    setting = f"{probe.device.type}, {probe.dtype}, {torch.get_num_threads()} threads, batch {len(probe)}"
    return Certificate(task, operator.digest(task), found, setting)


def save_tasks(operator: ContinualOperator, path: str | Path, *, certificates: Sequence[Certificate] = ()) -> None:
    """Write all finished tasks into a file, whole or not at all.

    Errors: `InputError` while a task is open; `StorageError` when the file cannot be written.
    """
    if operator.open is not None:
        raise InputError(f"task '{operator.open}' is open; finish() it before it is saved")
    tensors: dict[str, Tensor] = {}
    owned = operator.owned()
    for key, mask in owned.items():
        value = operator.store[key]
        tensors[f"values/{key}"] = value.masked_select(mask.expand_as(value))
        tensors[f"sizes/{key}"] = operator.sizes[key]
    for number, initial in enumerate(operator.initial):
        assert isinstance(initial, TensorTable)
        tensors |= {f"initial/{number}/{key}": initial[key] for key in initial}
    for name in operator.names:
        record = operator.record(name)
        tensors |= {f"masks/{name}/{key}": record.masks[key] for key in record.masks}
        tensors |= {f"state/{name}/{key}": record.state[key] for key in record.state}
        tensors[f"digest/{name}"] = record.digest
    facts = {
        "dense": operator.dense,
        "smallest": operator.smallest,
        "seed": operator.seed,
        "tasks": [[name, operator.record(name).generation] for name in operator.names],
        "shapes": [{key: layout.weight for key, layout in layouts.items()} for layouts in operator.layouts],
        "certificates": [asdict(certificate) for certificate in certificates],
    }
    plain = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    write_atomically(Path(path), save(plain, {"fieldwright": json.dumps(facts)}))


def load_tasks(path: str | Path, *modules: nn.Module) -> ContinualOperator:
    """The operator of a file, on a module that is built as the first one was, and one for each time that it grew.

    The last task is in use. Weights of the modules do not matter; all of them are replaced.
    Errors: `DataError` for a file that is missing or damaged, modules that do not fit it, or a task that is not, in all
    bits, what was saved.
    """
    facts, tensors = _read(Path(path))
    shapes = facts["shapes"]
    if len(modules) != len(shapes):
        raise DataError(f"{path}: the network grew {len(shapes) - 1} times; {len(shapes)} modules are needed")
    operator = ContinualOperator(modules[0], dense=facts["dense"], smallest=facts["smallest"], seed=facts["seed"])
    for module in modules[1:]:
        operator.grow(module)
    for layouts, saved in zip(operator.layouts, shapes, strict=True):
        if {key: list(layout.weight) for key, layout in layouts.items()} != saved:
            raise DataError(f"{path}: holds masks of other weights than this {type(modules[0]).__name__} has")
    try:
        for number, initial in enumerate(operator.initial):
            assert isinstance(initial, TensorTable)
            for key in initial:
                initial[key].copy_(tensors[f"initial/{number}/{key}"])
        for name, generation in facts["tasks"]:
            part = {key.removeprefix(f"state/{name}/"): value for key, value in tensors.items()
                    if key.startswith(f"state/{name}/")}  # fmt: skip
            operator.tasks[f"task-{name}"] = TaskRecord(generation, {}, part)
            record = operator.record(name)
            record.masks = TensorTable({key: tensors[f"masks/{name}/{key}"] for key in operator.layouts[generation]})
            record.digest.copy_(tensors[f"digest/{name}"])
        for key, mask in operator.owned().items():
            value = operator.store[key]
            value.masked_scatter_(mask.expand_as(value), tensors[f"values/{key}"].to(value.dtype))
            operator.sizes[key].copy_(tensors[f"sizes/{key}"])
    except (KeyError, RuntimeError) as error:
        raise DataError(f"{path}: does not fit the module ({str(error).splitlines()[0]})") from error
    changed = [name for name, same in operator.identical().items() if not same]
    if changed:
        raise DataError(f"{path}: tasks {', '.join(changed)} are not what they were when they were finished")
    if operator.names:
        operator.use_task(operator.names[-1])
    return operator


def load_certificates(path: str | Path) -> list[Certificate]:
    """The certificates that were saved with the tasks.

    Errors: `DataError` for a file that is missing or damaged.
    """
    return [Certificate(**facts) for facts in _read(Path(path))[0]["certificates"]]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not readable as safetensors ({str(error).splitlines()[0]})") from error
    if "fieldwright" not in metadata:
        raise DataError(f"{path}: holds no tasks; save_tasks writes such files")
    return json.loads(metadata["fieldwright"]), tensors


class SparseLinear(nn.Module):
    """W x + b with W in compressed rows, which stores and multiplies what is not zero."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", linear.weight.detach().to_sparse_csr())
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())

    def forward(self, x: Float[Tensor, "*batch inner"]) -> Float[Tensor, "*batch outer"]:
        rows = (self.weight @ x.flatten(0, -2).T).T.reshape(*x.shape[:-1], -1)  # type: ignore[operator]
        return rows if self.bias is None else rows + self.bias  # type: ignore[operator]


def export_task(operator: ContinualOperator, task: str, form: Literal["dense", "sparse"] = "dense") -> nn.Module:
    """A task as a module of its own, in evaluation mode: the module that it was learned in, with its weights.

    "sparse" puts `SparseLinear` in the place of masked linear layers; its sums run in another order, so the last bits
    of its outputs are others.
    Errors: `InputError` for a task or form that is not there.
    """
    if form not in ("dense", "sparse"):
        raise InputError(f"form: '{form}'; allowed are dense, sparse")
    used, generation = operator.current, operator.record(task).generation
    operator.use_task(task)
    module = copy.deepcopy(operator.generations[generation])
    if used is not None:
        operator.use_task(used)
    if form == "sparse":
        for key in operator.layouts[generation]:
            place, _, leaf = key.rpartition(".")
            layer = module.get_submodule(place)
            if isinstance(layer, nn.Linear) and leaf == "weight" and place:
                above, _, child = place.rpartition(".")
                setattr(module.get_submodule(above), child, SparseLinear(layer))
    return module.eval()
