"""Matrix decompositions judged by what defines them: residuals and orthogonality, not their elements.

Eigen- and singular vectors are determined up to sign, and up to a rotation where values are equal; Householder's R may
have any signs.  A backward stable algorithm leaves residuals of a few n eps |A|; LAPACK's own tests pass a ratio below
30 (Anderson et al., LAPACK Users' Guide, and TESTING/*.in: "threshold value of the test ratio", 30).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from diag.numerics.formats import Format

Floats = npt.NDArray[np.float64]
THRESHOLD = 30.0


def ratio_of(op_type: str, matrix: Floats, outputs: Sequence[Floats], format: Format) -> float | None:
    """The largest test ratio of a decomposition, of all matrices; None for other ops, and where vectors are not asked.

    Args:
        matrix: (..., m, n), of real numbers.
        outputs: the op's, in its order.
        format: the coarsest that it may compute in.
    """
    check = _CHECKS.get(op_type)
    if check is None or any(x.size == 0 for x in outputs) or not matrix.size:
        return None
    if not all(np.isfinite(x).all() for x in (matrix, *outputs)):
        return np.inf
    eps = 2 * format.unit_roundoff
    size = max(matrix.shape[-2:])
    norm = np.maximum(_norm(matrix), np.finfo(np.float64).tiny)
    residuals, others = check(matrix, outputs)
    return float(max(np.max(np.stack(residuals) / norm), np.max(np.stack(others))) / (size * eps))


def _norm(matrix: Floats) -> Floats:
    """The 1-norm, as LAPACK takes it."""
    return np.asarray(np.abs(matrix).sum(axis=-2).max(axis=-1))


def _off_orthogonal(vectors: Floats) -> Floats:
    gram = np.swapaxes(vectors, -1, -2) @ vectors
    return _norm(gram - np.eye(gram.shape[-1]))


def _off_order(values: Floats, descending: bool) -> Floats:
    """By how much neighbours are in the wrong order."""
    steps = np.diff(values, axis=-1) * (1 if descending else -1)
    return np.asarray(np.maximum(steps, 0.0).max(axis=-1, initial=0.0))


Residuals = tuple[list[Floats], list[Floats]]  # to be divided by the norm of the matrix, and as they are


def _eigen(matrix: Floats, outputs: Sequence[Floats]) -> Residuals:
    """A V = V L with ascending values; of A the lower triangle is read."""
    values, vectors = outputs
    lower = np.tril(matrix)
    whole = lower + np.swapaxes(np.tril(matrix, -1), -1, -2)
    residual = _norm(whole @ vectors - vectors * values[..., None, :])
    return [residual, _off_order(values, descending=False)], [_off_orthogonal(vectors)]


def _singular(matrix: Floats, outputs: Sequence[Floats]) -> Residuals:
    """A = U S V' with descending values, none below 0."""
    values, left, right = outputs
    num = values.shape[-1]
    product = (left[..., :num] * values[..., None, :]) @ np.swapaxes(right[..., :num], -1, -2)
    below = np.maximum(-values, 0.0).max(axis=-1, initial=0.0)
    residuals = [_norm(matrix - product), _off_order(values, descending=True), below]
    return residuals, [_off_orthogonal(left), _off_orthogonal(right)]


def _triangular(matrix: Floats, outputs: Sequence[Floats]) -> Residuals:
    """A = Q R, R upper triangular."""
    orthogonal, upper = outputs
    return [_norm(matrix - orthogonal @ upper), _norm(np.tril(upper, -1))], [_off_orthogonal(orthogonal)]


_CHECKS: dict[str, Callable[[Floats, Sequence[Floats]], Residuals]] = {
    "SelfAdjointEigV2": _eigen, "Svd": _singular, "Qr": _triangular,
}  # fmt: skip


def is_decomposition(op_type: str) -> bool:
    """Whether what defines an op's results leaves some of their signs, or more, to the one who computes them."""
    return op_type in _CHECKS
