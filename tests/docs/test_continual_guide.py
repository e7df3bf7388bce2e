"""The code of the guide's page on many tasks in one network runs as it stands."""

import re
from pathlib import Path

import torch

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "continual.md"


def test_the_page_learns_keeps_and_exports_two_tasks(tmp_path, capsys):
    learn, keep = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    names: dict = {"directory": tmp_path}
    exec(compile(learn.replace("steps=300", "steps=20"), str(PAGE), "exec"), names)
    assert capsys.readouterr().out.splitlines()[1] == "0.0"
    exec(compile(keep, str(PAGE), "exec"), names)
    operator, same, alone = names["operator"], names["same"], names["alone"]
    assert same.digest("advection") == operator.digest("advection")
    operator.use_task("heat")
    probe = torch.randn(2, 1, 64)
    assert torch.equal(alone(probe), operator(probe))
