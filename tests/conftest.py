"""What every test runs under: one thread, and every jaxtyping annotation of the package checked at run time."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch and numba are imported
os.environ.setdefault("NUMBA_NUM_THREADS", "2")

from jaxtyping import install_import_hook

SOURCE = Path(__file__).parents[1] / "src"


def checked_modules() -> list[str]:
    """The package's modules, but for those with numba kernels: the checker would wrap a kernel before numba sees it.

    Packages themselves are left out, because the hook takes a package's name for all that is below it.
    """
    files = sorted((SOURCE / "fieldwright").rglob("*.py"))
    return [
        ".".join(file.relative_to(SOURCE).with_suffix("").parts)
        for file in files
        if file.name != "__init__.py"
        and "import numba" not in file.read_text()
        and "from numba" not in file.read_text()
    ]


install_import_hook(checked_modules(), "runtime_checks.checked")
