"""Steps of an optimizer at a place: each element within what rounding allows, or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import mpmath
import numpy as np

from diag.common.wording import counted
from diag.numerics.formats import format_of
from diag.numerics.ulp import ulp_error
from probes.frame.device import DeviceUnderTest
from probes.frame.device_report import FAIL, NOTE, PASS, Measurement
from probes.frame.reproducer import Expected, reproducer
from probes.optimizers.enclosure import PRECISION, Enclosure, as_float64, point
from probes.optimizers.known_gradient import KnownGradientSteps, State
from probes.optimizers.setups import FAMILY, NARROW, Setup, first_weights, gradients, numpy_dtype
from probes.optimizers.update_rules import WEIGHT, EnclosingArithmetic, after_step

_NO_NUMBERS_OF_THE_RULE = ("iteration", "learning_rate")


@dataclass(frozen=True)
class Wrong:
    """An element beyond what rounding allows; of a variable with one element, the gradient is NaN."""

    variable: str
    step: int
    gradient: float
    before: float
    found: float
    exact: float
    low: float
    high: float

    def __str__(self) -> str:
        of = "" if np.isnan(self.gradient) else f", gradient {self.gradient:.3g}"
        return (
            f"{self.variable} is {self.found:.6g}; exact arithmetic gives {self.exact:.6g}, rounding allows "
            f"{self.low:.6g} to {self.high:.6g} (step {self.step}{of})"
        )


@dataclass
class Held:
    """One variable, all steps: what was found beside what is allowed.

    ulps: the largest error in ULP of the exact result.  share: the largest error over what rounding allows it.
    """

    variable: str
    ulps: float = 0.0
    share: float = 0.0
    num_judged: int = 0
    num_free: int = 0
    wrong: list[Wrong] = field(default_factory=list)

    def hold(self, before: np.ndarray, found: np.ndarray, allowed: Enclosure, gradient: np.ndarray, step: int) -> None:
        """Elements on whose range nothing is said, since something may overflow on the way, are counted apart."""
        found = np.atleast_1d(found)
        values = found.astype(np.float64)
        exact = as_float64(np.broadcast_to(allowed.exact, found.shape))
        low, high = (np.broadcast_to(x, found.shape) for x in (allowed.low, allowed.high))
        judged = np.isfinite(low) & np.isfinite(high)
        self.num_judged += int(judged.sum())
        self.num_free += int((~judged).sum())
        wrong = judged & ~((low <= values) & (values <= high))
        for at in zip(*np.nonzero(wrong), strict=True):
            given = float(gradient[at]) if gradient.shape == found.shape else float("nan")
            numbers = (float(array[at]) for array in (np.atleast_1d(before), values, exact, low, high))
            self.wrong.append(Wrong(self.variable, step, given, *numbers))
        judged &= np.isfinite(values)
        if judged.any():
            found, values, exact, low, high = (x[judged] for x in (found, values, exact, low, high))
            ulps = np.abs(ulp_error(found, exact, allowed.format, flushed=allowed.format.is_flushed))
            apart, room = np.abs(values - exact), np.where(values >= exact, high - exact, exact - low)
            self.ulps = max(self.ulps, float(ulps.max()))
            self.share = max(self.share, float(np.max(apart[apart > 0] / room[apart > 0], initial=0.0)))


def judged(device: DeviceUnderTest, setup: Setup, dtype: str) -> Iterator[Measurement]:
    """Are the steps right?  In a narrow dtype also: how far does the dtype itself take them from the formula?"""
    format = format_of(numpy_dtype(dtype))
    vectors = gradients(setup, dtype)
    steps = KnownGradientSteps(device, setup.optimizer(), first_weights(vectors[0].size, dtype), dtype)
    steps.begin_at(setup.iteration)
    config = setup.optimizer().get_config()
    held: dict[str, Held] = {}
    first: tuple[State, State] | None = None
    for number, gradient in enumerate(vectors):
        before = steps.state()
        given = steps.step(gradient)
        after = steps.state()
        first = first or (before, after)
        allowed = _after(setup, EnclosingArithmetic(config, format), before, given, setup.iteration + number)
        for kind, enclosure in allowed.items():
            held.setdefault(kind, Held(kind)).hold(before[kind], after[kind], enclosure, given, number)
        if given.tobytes() != gradient.tobytes():
            yield Measurement(FAMILY, setup.name, dtype, f"{setup.case}, gradient of step {number}", FAIL,
                          "the gradient of sum(x * w) is not x", {})  # fmt: skip
    yield _reading(setup, dtype, list(held.values()), device)
    if dtype in NARROW and setup.case == "default" and first is not None:
        yield _of_the_dtype(setup, dtype, config, *first, vectors[0])


def _after(
    setup: Setup, arithmetic: EnclosingArithmetic, before: State, gradient: np.ndarray, step: int
) -> dict[str, Enclosure]:
    format = arithmetic.format
    state = {kind: point(value, format) for kind, value in before.items() if kind not in _NO_NUMBERS_OF_THE_RULE}
    with mpmath.workprec(PRECISION):
        return after_step(setup.name, arithmetic, state, point(gradient, format), step)


def _reading(setup: Setup, dtype: str, held: list[Held], device: DeviceUnderTest) -> Measurement:
    wrong = [element for each in held for element in each.wrong]
    figures: dict[str, float | int] = {}
    for each in held:
        figures |= {f"{each.variable}_max_ulp": each.ulps, f"{each.variable}_share_of_bound": each.share}
    figures |= {
        "num_judged": sum(each.num_judged for each in held),
        "num_free": sum(each.num_free for each in held),
        "num_wrong": len(wrong),
    }
    if wrong:
        worst = next((element for element in wrong if element.variable == WEIGHT), wrong[0])
        says = f"{counted(len(wrong), 'element')} of {figures['num_judged']:,} beyond rounding: {worst}"
        return Measurement(
            FAMILY, setup.name, dtype, setup.case, FAIL, says, figures, _program(setup, dtype, worst, device)
        )
    ulps = ", ".join(f"{each.variable} {each.ulps:.2g}" for each in held)
    says = f"within rounding; largest error in ULP: {ulps}"
    return Measurement(FAMILY, setup.name, dtype, setup.case, PASS, says, figures)


def _program(setup: Setup, dtype: str, wrong: Wrong, device: DeviceUnderTest) -> str:
    """The first step of one element; none where it takes more: later steps, or a norm over all elements."""
    if wrong.variable != WEIGHT or wrong.step or setup.iteration or "clipnorm" in setup.settings:
        return ""
    if "global_clipnorm" in setup.settings:
        return ""
    settings = ", ".join(f"{name}={value!r}" for name, value in setup.settings.items())
    lines = [
        f"g = np.array([{wrong.gradient!r}]).astype(tf.{dtype}.as_numpy_dtype)",
        f"w: object = tf.Variable(np.array([{wrong.before!r}]).astype(tf.{dtype}.as_numpy_dtype))",
        f"optimizer: object = tf.keras.optimizers.{setup.name}({settings})",
        "optimizer.build([w])",
    ]
    title = f"{setup.name}, one step of a {dtype} weight ({setup.case}): expected {wrong.low!r} to {wrong.high!r}."
    allowed = repr(max(wrong.high - wrong.exact, wrong.exact - wrong.low))
    expected = Expected([f"expected = {wrong.exact!r}  # exact arithmetic"], allowed=allowed)
    body = "optimizer.apply([g], [w])\nreturn w + 0"
    return reproducer(title, lines, body, expected, device.place)


def _of_the_dtype(
    setup: Setup, dtype: str, config: Mapping[str, Any], before: State, after: State, gradient: np.ndarray
) -> Measurement:
    """The first update beside that of the formula with its settings as written, where the weight was 0."""
    unrounded = EnclosingArithmetic(config, format_of(numpy_dtype(dtype)), rounded=False)
    formula = _after(setup, unrounded, before, gradient, setup.iteration)[WEIGHT].exact
    at = np.nonzero((before[WEIGHT] == 0) & np.array([x != 0 for x in formula]))[0]
    exact = as_float64(formula)[at]
    found = after[WEIGHT].astype(np.float64)[at]
    with np.errstate(all="ignore"):
        ratio = found / exact
    finite = ratio[np.isfinite(ratio)]
    lost, broken = int((found == 0).sum()), int((~np.isfinite(found)).sum())
    figures: dict[str, Any] = {
        "num_updates": int(at.size), "num_lost": lost, "num_not_finite": broken,
        "median_ratio": float(np.median(finite)) if finite.size else None,
        "largest_ratio": float(finite.max()) if finite.size else None,
    }  # fmt: skip
    for name in ("epsilon", "beta_2"):
        if config.get(name):
            figures[name] = float(np.asarray(config[name]).astype(numpy_dtype(dtype)))
    stored = [f"{name} {config[name]:g} is {figures[name]:.6g}" for name in ("epsilon", "beta_2") if name in figures]
    parts = [
        f"{lost} of {at.size} updates are 0" if lost else "",
        f"{broken} of {at.size} are not finite" if broken else "",
        f"updates over the formula's: median {figures['median_ratio']:.3g}, largest {figures['largest_ratio']:.3g}"
        if finite.size
        else "",
    ]
    says = "; ".join([*([", ".join(stored)] if stored else []), *filter(None, parts)])
    return Measurement(FAMILY, setup.name, dtype, f"{setup.case}, what {dtype} makes of it", NOTE, says, figures)
