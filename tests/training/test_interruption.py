import signal
import threading

import pytest

from fieldwright.training.interruption import stop_requests


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_becomes_a_request(number):
    before = signal.getsignal(number)
    with stop_requests() as request:
        assert request.name is None
        signal.raise_signal(number)
        assert request.name == number.name
    assert signal.getsignal(number) is before


@pytest.fixture
def _ctrl_c_as_on_a_terminal():
    """Python's own handler: a process started in the background of a shell is born deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c_as_on_a_terminal")
def test_the_second_ctrl_c_ends_at_once():
    with stop_requests():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_other_threads_leave_signals_alone():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work():
        with stop_requests() as request:
            seen.append((request.name, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, before)]
