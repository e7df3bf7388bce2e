"""Where a training computes: one device, or one process a device under torchrun or SLURM, by Lightning Fabric."""

from __future__ import annotations

import os

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from torch import Tensor

from fieldwright.errors import InputError

DEVICES = ("auto", "cpu", "cuda", "mps")


def launch_fabric(device: str = "cpu") -> Fabric:
    """A launched Fabric for ``device``: "cpu", "cuda", "cuda:1", "mps" or "auto".

    Under ``torchrun`` or ``srun`` it joins the other processes (gloo on CPUs, NCCL on GPUs) and each takes its own
    device. Work for one process alone is guarded by ``fabric.is_global_zero`` and followed by ``fabric.barrier()``.
    Errors: `InputError` for a device that is unknown or not there.
    """
    kind, _, index = device.partition(":")
    if kind not in DEVICES or (index and not (kind == "cuda" and index.isdigit())):
        raise InputError(f"device: '{device}'; allowed are {', '.join(DEVICES)} and cuda:0, cuda:1, ...")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError("device: 'cuda'; this machine, or the installed PyTorch, has no CUDA device")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise InputError(f"device: '{device}'; there are {torch.cuda.device_count()} CUDA devices")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError("device: 'mps'; this machine, or the installed PyTorch, has no Metal device")
    here, everywhere = _processes()
    if everywhere > 1:
        fabric = Fabric(accelerator=kind, devices=here, num_nodes=everywhere // here, strategy="ddp")
    else:
        fabric = Fabric(accelerator=kind, devices=[int(index or 0)] if kind != "cpu" else 1)
    fabric.launch()
    return fabric


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16; without them it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()
        return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))
    return False


def total(fabric: Fabric, values: Tensor) -> Tensor:
    """Sum of a tensor over all processes, the same in each."""
    return values if fabric.world_size == 1 else fabric.all_reduce(values, reduce_op="sum")  # type: ignore[return-value]


def _processes() -> tuple[int, int]:
    """How many processes were launched on this machine and altogether."""
    if "LOCAL_WORLD_SIZE" in os.environ and "WORLD_SIZE" in os.environ:
        return int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if SLURMEnvironment.detect() and "SLURM_NTASKS_PER_NODE" in os.environ:
        return int(os.environ["SLURM_NTASKS_PER_NODE"]), int(os.environ.get("SLURM_NTASKS", "1"))
    return 1, 1
