"""What rounding in a gradient does to Adam's update, element by element.

Adam (Kingma and Ba 2015, algorithm 1, in the form of its section 2) moves a weight by

    m' = m + (1 - beta_1) (g - m),  v' = v + (1 - beta_2) (g^2 - v),
    update(g) = -alpha m' / (sqrt(v') + epsilon),  alpha = rate sqrt(1 - beta_2^t) / (1 - beta_1^t).

In the first step, m and v being zero, that is the rate times the sign of g, however small g is: a
gradient that is nothing but rounding moves its weight as far as any other, one way in one lane and the
other way in the other.  That is no fault, and no bound on the update alone can tell it from one; the
gradient's own rounding error can.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from diag.numerics.formats import Format, format_of
from diag.numerics.op_classes import allowance_ulp

Array: TypeAlias = npt.NDArray[np.float64]
PART = 1 << 15  # elements that are judged at a time: what passes between the formulas stays in the processor's cache


@dataclass(frozen=True)
class Adam:
    """The optimizer before one of its steps, for one variable.

    momentum, velocity: float64 arrays of the variable's shape.  iteration: 1 in the first step.
    """

    momentum: Array
    velocity: Array
    beta_1: float
    beta_2: float
    epsilon: float
    rate: float
    iteration: int

    def part(self, elements: slice) -> Adam:
        """Some elements, of the flat arrays."""
        return replace(self, momentum=self.momentum.ravel()[elements], velocity=self.velocity.ravel()[elements])

    @property
    def alpha(self) -> float:
        """The rate with the bias corrections in it."""
        return self.rate * math.sqrt(1 - self.beta_2**self.iteration) / (1 - self.beta_1**self.iteration)

    def next_momentum(self, gradient: Array) -> Array:
        return self.momentum + (1 - self.beta_1) * (gradient - self.momentum)

    def next_velocity(self, gradient: Array) -> Array:
        return self.velocity + (1 - self.beta_2) * (gradient * gradient - self.velocity)

    def update(self, gradient: Array) -> Array:
        """What is added to the weight."""
        root = np.sqrt(self.next_velocity(gradient))
        return -self.alpha * self.next_momentum(gradient) / (root + self.epsilon)

    def condition(self, gradient: Array) -> Array:
        """|g update'(g) / update(g)|: how many times a relative error of the gradient is enlarged.

        epsilon / (sqrt(v') + epsilon) in the first step, next to nothing; infinite where m' is zero by
        cancellation, since the sign of the update hangs on any error there.
        """
        momentum, root = self.next_momentum(gradient), np.sqrt(self.next_velocity(gradient))
        with np.errstate(divide="ignore", invalid="ignore"):
            of_momentum = (1 - self.beta_1) * gradient / momentum
            of_velocity = (1 - self.beta_2) * gradient**2 / (root * (root + self.epsilon))
        of_momentum = np.where((gradient == 0) & (momentum == 0), 1.0, of_momentum)  # update is linear in g there
        return np.abs(of_momentum - np.where(gradient == 0, 0.0, of_velocity))

    def reach(self, gradient: Array, error: float) -> Array:
        """How far the update moves at most when the gradient moves by at most `error`.

        The update has its extremes at the ends of that interval or where its derivative is zero: at
        the roots of a quadratic equation, of which those within the interval count.
        """
        here = self.update(gradient)
        low, high = gradient - error, gradient + error
        points = [low, high, *(np.clip(root, low, high) for root in self._stationary())]
        farthest: Array = np.max([np.abs(self.update(point) - here) for point in points], axis=0)
        return farthest

    def _stationary(self) -> tuple[Array, Array]:
        """Gradients where update' = 0, or anything where there are none.

        (1 - beta_1) sqrt(v') (sqrt(v') + epsilon) = (1 - beta_2) m' g, freed of its root.
        """
        b1, b2 = self.beta_1, self.beta_2
        slope, offset = (1 - b2) * b1 * self.momentum, (1 - b1) * b2 * self.velocity
        with_epsilon = ((1 - b1) * self.epsilon) ** 2
        a = slope**2 - with_epsilon * (1 - b2)
        half_b = -slope * offset
        c = offset**2 - with_epsilon * b2 * self.velocity
        with np.errstate(divide="ignore", invalid="ignore"):
            root = np.sqrt(half_b**2 - a * c)
            found = [np.asarray((-half_b + signed) / a) for signed in (root, -root)]
        first, second = (np.where(np.isfinite(points), points, 0.0) for points in found)
        return first, second

    def rounding(self, gradient: Array, format: Format) -> tuple[Array, Array, Array]:
        """What computing in `format` may add to momentum, velocity and update, given the gradient as it is."""
        u, tiny = format.unit_roundoff, format.smallest_normal
        momentum, velocity = self.next_momentum(gradient), self.next_velocity(gradient)
        # difference, product with (1 - beta) as rounded, and the sum; the square besides
        of_momentum = u * (np.abs(momentum) + 3 * (1 - self.beta_1) * np.abs(gradient - self.momentum)) + tiny
        squares = (1 - self.beta_2) * (gradient**2 + 3 * np.abs(gradient**2 - self.velocity))
        of_velocity = u * (velocity + squares) + tiny
        root = np.sqrt(velocity)
        denominator = root + self.epsilon
        # sqrt(v' + error) - sqrt(v'), which at v' = 0 is the root of the error
        of_root = np.sqrt(velocity + of_velocity) - root
        relative = 2 * u * (allowance_ulp("Div") + allowance_ulp("Sqrt") + 2) + self._alpha_error(u)
        update = np.abs(self.update(gradient))
        return (
            of_momentum,
            of_velocity,
            self.alpha * of_momentum / denominator + update * (of_root / denominator + relative),
        )

    def _alpha_error(self, u: float) -> float:
        """Relative: powers of beta, taken from 1, where they may cancel.

        Each is within Pow's allowance of the power of beta as rounded, which is `iteration` roundings away.
        """
        power = u * (2 * allowance_ulp("Pow") + self.iteration)
        first, second = self.beta_1**self.iteration, self.beta_2**self.iteration
        return power * (first / (1 - first) + 0.5 * second / (1 - second)) + 4 * u


@dataclass(frozen=True)
class AdamFigures:
    """Adam's work on one variable in one step, both lanes against float64 truth.

    gradient_error: what rounding explains in an element of the gradient.  other_sign: share of elements
    whose update has the other sign in the candidate than in the reference.  of_noise: share of all
    elements where that is so and the gradient's rounding error alone decides the sign.  condition: p50
    and p99 of how much the update enlarges a relative error of the gradient.  momentum, velocity, update:
    the candidate's largest error over what the gradient's rounding and Adam's own explain there.
    """

    variable: str
    size: int
    gradient_error: float
    other_sign: float
    of_noise: float
    condition: tuple[float, float]
    momentum: float
    velocity: float
    update: float
    worst_index: tuple[int, ...]
    from_rest: bool  # there was no momentum before: the sign is that of the gradient

    @property
    def unexplained_sign(self) -> float:
        return self.other_sign - self.of_noise


@dataclass(frozen=True)
class AdamLane:
    """What one lane made of a variable in one step: arrays of the variable's shape and dtype.

    gradient: float64 truth, given what this lane decided on the way (which ReLU is open, which element
    of a pool wins): a lane that rounded to the other side is right to follow its own decision.
    """

    momentum: npt.NDArray[Any]
    velocity: npt.NDArray[Any]
    weight: npt.NDArray[Any]
    gradient: Array

    def part(self, elements: slice) -> AdamLane:
        """Some elements, of the flat arrays."""
        arrays = (self.momentum, self.velocity, self.weight, self.gradient)
        return AdamLane(*(array.ravel()[elements] for array in arrays))

    def update(self, before: npt.NDArray[Any]) -> Array:
        return self.weight.astype(np.float64) - before.astype(np.float64)


def judge_adam(
    variable: str, adam: Adam, gradient_error: float, before: npt.NDArray[Any], reference: AdamLane, candidate: AdamLane
) -> AdamFigures:
    """Hold what both lanes did to a variable against float64 truth of its gradient.

    Args:
        variable: its name, for the report.
        adam: the state before the step, of both lanes.
        gradient_error: the largest error of an element of the gradient that rounding explains.
        before: the weight before the step.
        reference, candidate: the lanes after it.
    """
    size, weight = candidate.gradient.size, before.ravel()
    slices = [slice(start, start + PART) for start in range(0, size, PART)]
    parts = [
        _judge_part(adam.part(each), gradient_error, weight[each], reference.part(each), candidate.part(each))
        for each in slices
    ]
    momentum, velocity, update = (float(np.max([np.max(part.excess[i]) for part in parts])) for i in range(3))
    number = int(np.argmax([np.max(part.excess[2]) for part in parts]))
    worst = number * PART + int(np.argmax(parts[number].excess[2]))
    p50, p99 = np.percentile(np.concatenate([part.condition for part in parts]), (50, 99), method="lower")
    return AdamFigures(
        variable=variable,
        size=size,
        gradient_error=gradient_error,
        other_sign=sum(np.count_nonzero(part.flipped) for part in parts) / size,
        of_noise=sum(np.count_nonzero(part.flipped & part.is_noise) for part in parts) / size,
        condition=(float(p50), float(p99)),
        momentum=momentum,
        velocity=velocity,
        update=update,
        worst_index=tuple(int(i) for i in np.unravel_index(worst, candidate.gradient.shape)),
        from_rest=not np.any(adam.momentum),
    )


@dataclass(frozen=True)
class _Part:
    """Of some elements: the candidate's error over what is explained in momentum, velocity and update, whether the
    lanes moved the weight to opposite sides, whether the gradient's rounding decides that, the update's condition."""

    excess: tuple[Array, Array, Array]
    flipped: npt.NDArray[np.bool_]
    is_noise: npt.NDArray[np.bool_]
    condition: Array


def _judge_part(
    adam: Adam, gradient_error: float, before: npt.NDArray[Any], reference: AdamLane, candidate: AdamLane
) -> _Part:
    gradient, update = candidate.gradient, candidate.update(before)
    truth = (adam.next_momentum(gradient), adam.next_velocity(gradient), adam.update(gradient))
    allowed = _allowed(adam, gradient, gradient_error, candidate.weight)
    found = (candidate.momentum, candidate.velocity, update)
    of_momentum, of_velocity, of_update = (
        np.abs(x.astype(np.float64) - t) / a for x, t, a in zip(found, truth, allowed, strict=True)
    )
    of_reference = np.abs(adam.next_momentum(reference.gradient))
    is_noise = np.minimum(np.abs(truth[0]), of_reference) <= allowed[0]
    flipped = reference.update(before) * update < 0
    return _Part((of_momentum, of_velocity, of_update), flipped, is_noise, adam.condition(gradient))


def _allowed(
    adam: Adam, gradient: Array, gradient_error: float, weight: npt.NDArray[Any]
) -> tuple[Array, Array, Array]:
    """What the gradient's rounding, Adam's own and that of the sum with the weight explain."""
    format = format_of(weight.dtype)
    of_momentum, of_velocity, of_update = adam.rounding(gradient, format)
    squares = gradient_error * (2 * np.abs(gradient) + gradient_error)
    return (
        of_momentum + (1 - adam.beta_1) * gradient_error,
        of_velocity + (1 - adam.beta_2) * squares,
        of_update + adam.reach(gradient, gradient_error) + format.unit_roundoff * np.abs(weight.astype(np.float64)),
    )
