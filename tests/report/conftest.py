"""An evaluation made by hand and the facts of its run."""

import pytest
from hand_made import make_evaluation, make_facts


@pytest.fixture
def evaluation():
    return make_evaluation()


@pytest.fixture
def facts():
    return make_facts()
