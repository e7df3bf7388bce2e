"""Fieldwright: from a PDE to a neural surrogate you can trust, in one command.

``from fieldwright import Surrogate`` is all that using a finished run needs; the rooms of the house are its modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fieldwright.surrogate import Surrogate

__version__ = "0.1.0"
__all__ = ["Surrogate", "__version__"]


def __getattr__(name: str) -> Any:
    # On demand: the command line answers `--help` without waiting for torch.
    if name == "Surrogate":
        from fieldwright.surrogate import Surrogate

        return Surrogate
    raise AttributeError(f"module 'fieldwright' has no attribute '{name}'")
