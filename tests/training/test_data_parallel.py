import csv
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_training as tiny


def figures(directory: Path) -> list[tuple[float, ...]]:
    with open(directory / "metrics.csv", newline="", encoding="utf-8") as file:
        return [
            tuple(float(row[name] or 0) for name in ("step", "loss", "gradient_norm", "valid_relative_l2"))
            for row in csv.DictReader(file)
        ]


def test_two_processes_give_the_losses_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port),
        str(Path(tiny.__file__)), str(tmp_path / "two"), "0.0", "30",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    tiny.tiny_training(tmp_path / "one", dropout=0.0)
    one, two = figures(tmp_path / "one"), figures(tmp_path / "two")
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert b == pytest.approx(a, rel=1e-4, abs=1e-7)
    # The first loss has seen no update yet: it is equal to round-off.
    assert two[0][1] == pytest.approx(one[0][1], rel=1e-6)
    assert len(list((tmp_path / "two" / "checkpoints").iterdir())) == 2
