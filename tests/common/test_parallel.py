from __future__ import annotations

import threading

import pytest

from diag.common.parallel import both


def test_both_run_at_the_same_time_the_first_in_this_thread() -> None:
    meeting = threading.Barrier(2, timeout=30)

    def meet() -> int:
        meeting.wait()  # would break after 30 s if one began only when the other is over
        return threading.get_ident()

    first, second = both(meet, meet)
    assert first == threading.get_ident() != second


@pytest.mark.parametrize("wrong", [0, 1])
def test_an_error_of_either_is_raised_when_both_are_over(wrong: int) -> None:
    done = []

    def call(number: int) -> None:
        done.append(number)
        if number == wrong:
            raise ValueError(number)

    with pytest.raises(ValueError):
        both(lambda: call(0), lambda: call(1))
    assert sorted(done) == [0, 1]
