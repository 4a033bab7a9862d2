"""What Adam made of gradients that differ, in words."""

from __future__ import annotations

from collections.abc import Sequence

from diag.common.wording import counted, figure, percent
from diag.numerics.adam import AdamFigures

MAX_VARIABLES = 4


def sign_lines(figures: Sequence[AdamFigures]) -> list[str]:
    """The variables that the lanes move apart most, and how much of that is noise."""
    flipped = sorted((each for each in figures if each.other_sign), key=lambda each: -each.other_sign)
    if not flipped:
        return ["No update has another sign in the candidate than in the reference."]
    lines = [_sign_line(each) for each in flipped[:MAX_VARIABLES]]
    if len(flipped) > MAX_VARIABLES:
        lines.append(f"... and of {counted(len(flipped) - MAX_VARIABLES, 'more variable')}, in report.json")
    return lines


def _sign_line(each: AdamFigures) -> str:
    noise = "the gradient is" if each.from_rest else "the momentum is"
    below = "its rounding error" if each.from_rest else "what the gradient's rounding error moves it by"
    text = (
        f"{percent(each.other_sign)} of the updates of {each.variable} have the other sign; in "
        f"{percent(each.of_noise)} {noise} below {below}"
    )
    return f"{text}, in {percent(each.unexplained_sign)} it is not" if each.unexplained_sign > 0 else text


def error_line(figures: Sequence[AdamFigures]) -> str:
    """The largest errors of all variables, and how much Adam enlarges those of the gradients."""
    momentum = max(figures, key=lambda each: each.momentum)
    velocity = max(figures, key=lambda each: each.velocity)
    update = max(figures, key=lambda each: each.update)
    steepest = max(figures, key=lambda each: each.condition[1])
    return (
        "Largest error over what the gradient's rounding and Adam's own explain: momentum "
        f"{figure(momentum.momentum)} ({momentum.variable}), velocity {figure(velocity.velocity)} "
        f"({velocity.variable}), update {figure(update.update)} ({update.variable}). In 99% of the elements of "
        "every variable a relative error of the gradient becomes at most "
        f"{figure(steepest.condition[1])} times as large ({steepest.variable})."
    )
