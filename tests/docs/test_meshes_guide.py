"""The first code of the guide's page on moving meshes runs as it stands."""

import re
from pathlib import Path

import torch

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "meshes.md"


def test_the_page_moves_a_mesh(capsys):
    block = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)[0]
    names: dict = {}
    exec(compile(block, str(PAGE), "exec"), names)
    assert "MeshQuality" in capsys.readouterr().out
    mesh = names["mesh"]
    assert mesh.nodes.shape == (1, 2, 48, 48)
    assert float(mesh.quality().least_volume) > 0
    assert torch.equal(mesh.scale, torch.ones_like(mesh.scale))
