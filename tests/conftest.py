"""What every test runs under: one thread, and every array annotation of the package checked at run time."""

import os
import re
import signal
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch and numba are imported
os.environ.setdefault("NUMBA_NUM_THREADS", "2")

import pytest
from jaxtyping import install_import_hook

# A shell's background job starts deaf to Ctrl-C, and then Python leaves it so.
signal.signal(signal.SIGINT, signal.default_int_handler)

SOURCE = Path(__file__).parents[1] / "src"

KERNELS = re.compile(r"^@(compiled|inner)\b|^(from|import) numba\b", re.MULTILINE)


def checked_modules() -> list[str]:
    """The package's modules, but for those with numba kernels: the checker would wrap a kernel before numba sees it.

    Packages themselves are left out, because the hook takes a package's name for all that is below it.
    """
    files = sorted((SOURCE / "fieldwright").rglob("*.py"))
    return [
        ".".join(file.relative_to(SOURCE).with_suffix("").parts)
        for file in files
        if file.name != "__init__.py" and not KERNELS.search(file.read_text())
    ]


install_import_hook(checked_modules(), "runtime_checks.checked")

TINY = (
    "problem.resolution=16", "data.train=24", "data.valid=8", "data.test=8", "data.shard_samples=10",
    "operator.width=6", "operator.layers=2", "operator.levels=3", "training.steps=12", "training.batch_size=4",
    "training.seconds=null", "training.learning_rate=2.0e-3",
    "evaluation.resolutions=[8]", "evaluation.samples=4",
)  # fmt: skip


@pytest.fixture(scope="session")
def tiny_overrides() -> list[str]:
    """Overrides that make the recipe `darcy` a run of seconds, on 16 x 16 cells."""
    return list(TINY)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the recipe `darcy` with the overrides `TINY`. Copy it before you change it."""
    from fieldwright.pipeline import run
    from fieldwright.recipe import load_recipe

    directory = tmp_path_factory.mktemp("runs") / "tiny"
    run(load_recipe("darcy", TINY), directory, device="cpu")
    return directory


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory that is the current one, and leaves no trace on ``sys.path``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path
