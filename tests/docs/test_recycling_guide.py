"""The code of the guide's page on sequences runs as it stands."""

import re
from pathlib import Path

import numpy as np

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "recycling.md"


def test_the_blocks_of_the_page_run_one_after_the_other(capsys):
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert printed[-2] == "1"
    shorter, unsorted = map(float, printed[-1].split())
    assert shorter < unsorted
    assert names["solution"].converged
    assert names["report"].distances.shape == (64,)
    assert np.nanmax(names["report"].distances) < 1
