"""Ctrl-C is remembered, then acted on at a check; a second one is not held back."""

from __future__ import annotations

import signal
import threading

import pytest

from inspection.training.interrupt import Interrupted, InterruptGuard, uninterrupted


@pytest.fixture(autouse=True)
def listening():
    """A shell ignores Ctrl-C for what it runs in the background, and so would these tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_first_waits_for_a_check_and_second_does_not():
    said = []
    with InterruptGuard("this image", said.append) as guard:
        guard.check()
        signal.raise_signal(signal.SIGINT)
        assert guard.wanted
        assert ["this image" in text for text in said] == [True]
        with pytest.raises(Interrupted):
            guard.check()
        with pytest.raises(KeyboardInterrupt) as caught:
            signal.raise_signal(signal.SIGINT)
        assert not isinstance(caught.value, Interrupted)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_at_once_what_any_signal_asked_to_end(number):
    with InterruptGuard(say=lambda text: None) as guard:
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGTERM)
        assert guard.wanted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_sigterm_waits_for_a_check_and_a_second_one_changes_nothing():
    before, said = signal.getsignal(signal.SIGTERM), []
    with InterruptGuard("this image", said.append) as guard:
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        assert [text.startswith("SIGTERM: finishing this image") for text in said] == [True]
        with uninterrupted():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(Interrupted):
            guard.check()
    assert signal.getsignal(signal.SIGTERM) is before


def test_handler_is_put_back_after_an_error():
    with pytest.raises(ValueError), InterruptGuard():
        raise ValueError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ignored_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with InterruptGuard() as guard:
        signal.raise_signal(signal.SIGINT)
    assert not guard.wanted


def test_other_threads_change_no_handler():
    seen = []

    def work():
        with InterruptGuard():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
