"""The gallery: the check of each method's paper that fits ten minutes on two cores, run again on this machine.

`reproduce` measures, and writes a page with the table and figure just measured beside the paper's headline and the
strongest plain alternative.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fieldwright.errors import InputError
from fieldwright.gallery.data_free_mesh_mover import reproduce_data_free_mesh_mover
from fieldwright.gallery.depth_stacking import reproduce_depth_stacking
from fieldwright.gallery.dynamic_sparse import reproduce_continual_learning
from fieldwright.gallery.krylov_recycling import reproduce_krylov_recycling
from fieldwright.gallery.large_batch import reproduce_large_batch
from fieldwright.gallery.latent_spectral_model import reproduce_latent_spectral_model
from fieldwright.gallery.lion_k import reproduce_lion_k
from fieldwright.gallery.multigrid_neural_operator import reproduce_multigrid_neural_operator
from fieldwright.gallery.multionet import reproduce_multionet
from fieldwright.gallery.operator_transformer import reproduce_operator_transformer
from fieldwright.gallery.page import Claim, Reproduction, Table, verdict, write_page
from fieldwright.gallery.scaling_laws import reproduce_scaling_laws
from fieldwright.gallery.spectral_refiner import reproduce_spectral_refiner
from fieldwright.gallery.template_mixture_growth import reproduce_template_mixture_growth
from fieldwright.progress import SILENT, Reporter
from fieldwright.settings import allowed

__all__ = ["GALLERY", "Claim", "Entry", "Reproduction", "Table", "reproduce", "verdict", "write_page"]


@dataclass(frozen=True)
class Entry:
    """A method of the gallery: one line about it, and the function that measures it."""

    summary: str
    measure: Callable[[bool, Reporter], Reproduction]


GALLERY: dict[str, Entry] = {
    "data-free-mesh-mover": Entry(
        "DMM: nodes moved to where a field varies, by a network and by plain relaxation; what an operator gains by it",
        reproduce_data_free_mesh_mover,
    ),
    "depth-stacking": Entry(
        "G_stack: a language model and an operator transformer grown from shallow ones, against scratch at equal loss",
        reproduce_depth_stacking,
    ),
    "dynamic-sparse-continual-learning": Entry(
        "DST: one network learns four equations, then ten digits, and forgets none by a bit; what that costs",
        reproduce_continual_learning,
    ),
    "krylov-recycling": Entry(
        "SKR: sorted systems solved by GCRO-DR; where the published gain over GMRES comes from, and what is left of it",
        reproduce_krylov_recycling,
    ),
    "large-batch-regime": Entry(
        "Large batches: what closes the gap to small ones, which batch pays, how weights diffuse",
        reproduce_large_batch,
    ),
    "latent-spectral-model": Entry(
        "LSM: a U-Net with latent tokens in its skips, against a plain U-Net and an FNO in the same time",
        reproduce_latent_spectral_model,
    ),
    "lion-k": Entry(
        "Lion-K: what weight decay makes of a momentum's sign; signs, spectra, boxes against AdamW, Muon, clamping",
        reproduce_lion_k,
    ),
    "multigrid-neural-operator": Entry(
        "MgNO: a learned V-cycle inverts the Laplacian; a race against FNO and a U-Net on Darcy; exact periodicity",
        reproduce_multigrid_neural_operator,
    ),
    "spectral-refiner": Entry(
        "SFNO: turbulence from known frames, against FNO in the same time; at other resolutions and other times",
        reproduce_spectral_refiner,
    ),
    "multionet": Entry(
        "MultiONet: branch and trunk joined on several layers, against DeepONet and an FNO in the same time",
        reproduce_multionet,
    ),
    "poseidon-operator-transformer": Entry(
        "Poseidon: the published network digit by digit; training on all pairs of states against the first alone",
        reproduce_operator_transformer,
    ),
    "template-mixture-growth": Entry(
        "MixtureGrowth: two half-width networks merged into a whole one, against scratch, Net2Net and their average",
        reproduce_template_mixture_growth,
    ),
    "scaling-laws": Entry(
        "Errors of more data forecast from pilots: how often intervals hold, on synthetic and real curves",
        reproduce_scaling_laws,
    ),
}


def reproduce(
    name: str, directory: Path | str = "docs/gallery", *, quick: bool = False, reporter: Reporter = SILENT
) -> Reproduction:
    """Measure a method and write ``<directory>/<name>.md`` with its figure.

    ``quick`` runs the same code for seconds instead of minutes; its figures mean nothing and its page says so.
    Errors: `InputError` for a name that is not in `GALLERY`; `StorageError` when the page cannot be written.
    """
    if name not in GALLERY:
        raise InputError(f"reproduce: '{name}'; {allowed(name, GALLERY)}")
    start = time.perf_counter()
    measured = GALLERY[name].measure(quick, reporter)
    measured = replace(measured, name=name, quick=quick, seconds=time.perf_counter() - start)
    write_page(measured, Path(directory))
    return measured
