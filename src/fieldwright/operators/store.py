"""Operators on disk: a directory in the Hugging Face convention, written whole or not at all and read strictly.

``config.json`` holds the constructor's arguments, ``model.safetensors`` the weights and, in its metadata, the class and
the configuration they belong to. `huggingface_hub.PyTorchModelHubMixin` reads the same directory; what is added here is
that a save never leaves a half-written model, that loading is strict, silent and offline, and that every failure is one
sentence.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from huggingface_hub import PyTorchModelHubMixin
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from fieldwright.errors import DataError, InputError, StorageError

Module = TypeVar("Module", bound=nn.Module)
CONFIG, WEIGHTS = "config.json", "model.safetensors"


class StoredOperator(PyTorchModelHubMixin, library_name="fieldwright", license="mit"):
    """Gives an `nn.Module`, whose constructor takes plain JSON values, `save_pretrained` and `from_pretrained`."""

    def save_pretrained(self, save_directory: str | Path, **hub_options: Any) -> str | None:  # type: ignore[override]
        """Save into a directory, which is made where there is none; other files in it are left alone.

        ``hub_options`` are those of `huggingface_hub.ModelHubMixin.save_pretrained`.

        Errors: `StorageError` when the directory cannot be written; the model that was in it is still there then.
        """
        target = Path(save_directory)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
                fresh = Path(scratch) / target.name
                url = super().save_pretrained(fresh, **hub_options)
                for file in fresh.iterdir():
                    _flush(file)
                _publish(fresh, target)
        except (OSError, SafetensorError) as error:
            raise StorageError(f"{target}: the operator cannot be saved there ({_reason(error)})") from error
        return url

    def _save_pretrained(self, save_directory: Path) -> None:
        from safetensors.torch import save_file

        # Clones: safetensors refuses weights that share memory, such as tied ones.
        layout = torch.contiguous_format
        tensors = {name: t.detach().clone(memory_format=layout) for name, t in self.state_dict().items()}  # type: ignore[attr-defined]
        metadata = {"format": "pt", "operator": type(self).__name__, "config": _canonical(self._hub_mixin_config)}
        save_file(tensors, save_directory / WEIGHTS, metadata=metadata)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | Path, *, map_location: str | torch.device = "cpu"
    ) -> Self:
        """The operator saved in a directory, in evaluation mode. Never touches the network.

        Errors: `DataError` when the directory is not there, holds another class of operator, or is damaged.
        """
        directory = Path(pretrained_model_name_or_path)
        config, metadata, tensors = read_model(directory, device=str(map_location))
        kind = metadata.get("operator", cls.__name__)
        if kind != cls.__name__:
            raise DataError(f"{directory}: holds a {kind}, which {cls.__name__} cannot load")
        return restore(cls, config, tensors, directory)  # type: ignore[type-var]


def read_model(directory: Path, *, device: str = "cpu") -> tuple[dict[str, Any], dict[str, str], dict[str, Tensor]]:
    """(constructor arguments, metadata of the weights, weights by name) of a model directory.

    Errors: `DataError` when a file is missing or damaged, or the two files come from different saves.
    """
    if not directory.is_dir():
        raise DataError(f"{directory}: no such model directory")
    try:
        config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
        with safe_open(directory / WEIGHTS, framework="pt", device=device) as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError as error:
        missing = CONFIG if not (directory / CONFIG).exists() else WEIGHTS
        raise DataError(f"{directory}: not a model directory, {missing} is missing") from error
    except ValueError as error:
        raise DataError(f"{directory / CONFIG}: not readable as JSON ({_reason(error)})") from error
    except (SafetensorError, OSError) as error:
        raise DataError(f"{directory / WEIGHTS}: not readable as safetensors ({_reason(error)})") from error
    if not isinstance(config, dict):
        raise DataError(f"{directory / CONFIG}: holds a {type(config).__name__}, not an object of arguments")
    if metadata.get("config", _canonical(config)) != _canonical(config):
        raise DataError(f"{directory}: {CONFIG} does not belong to {WEIGHTS}, they come from different saves")
    return config, metadata, tensors


def restore(cls: type[Module], config: dict[str, Any], tensors: dict[str, Tensor], directory: Path) -> Module:
    """Build ``cls(**config)``, load every weight and set it to evaluation mode.

    Errors: `DataError` naming the directory for arguments the class does not take or weights that do not fit.
    """
    try:
        operator = cls(**config)
    except (TypeError, InputError) as error:
        raise DataError(f"{directory / CONFIG}: {cls.__name__} cannot be built from it ({_reason(error)})") from error
    expected = operator.state_dict()
    for name in sorted(expected.keys() ^ tensors.keys()):
        fault = "lacks" if name in expected else "holds the unknown"
        raise DataError(f"{directory / WEIGHTS}: {fault} weight '{name}' for this {cls.__name__}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            found, wanted = tuple(tensor.shape), tuple(expected[name].shape)
            raise DataError(f"{directory / WEIGHTS}: weight '{name}' has shape {found}, expected {wanted}")
    operator.load_state_dict(tensors, assign=False)
    return operator.eval()


def _publish(fresh: Path, target: Path) -> None:
    if not target.exists():
        fresh.rename(target)
        return
    if not target.is_dir():
        raise NotADirectoryError(f"{target.name} is a file")
    # The weights come last: they name the configuration they belong to, so a mixture is recognised on loading.
    for file in sorted(fresh.iterdir(), key=lambda path: path.name == WEIGHTS):
        if file.name in (CONFIG, WEIGHTS) or not (target / file.name).exists():
            os.replace(file, target / file.name)
    shutil.rmtree(fresh, ignore_errors=True)


def _flush(file: Path) -> None:
    with file.open("rb+") as handle:
        os.fsync(handle.fileno())


def _canonical(config: Any) -> str:
    return json.dumps(config, sort_keys=True)


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split()) or type(error).__name__
