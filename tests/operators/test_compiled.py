import subprocess
import sys
from pathlib import Path

from fieldwright.operators import OPERATORS

SCRIPT = Path(__file__).with_name("compiled_operators.py")


def test_every_operator_compiles_without_breaks_on_several_grids_and_exports():
    finished = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr[-3000:]
    assert set(OPERATORS) <= set(finished.stdout.split())
