"""What the tests of the solvers share: walls of every kind."""

import pytest

WALLS_2D = {
    "dirichlet": "dirichlet",
    "neumann": "neumann",
    "periodic": "periodic",
    "one wall": [["dirichlet", "neumann"], "neumann"],
    "other wall": ["neumann", ["neumann", "dirichlet"]],
    "channel": ["periodic", "dirichlet"],
    "closed channel": ["periodic", "neumann"],
}


@pytest.fixture(params=WALLS_2D.values(), ids=WALLS_2D.keys())
def walls(request):
    """Conditions on the four sides of a rectangle, one kind after the other."""
    return request.param
