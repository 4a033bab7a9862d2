"""What a contraction is measured by in norm: where the bound per element fails, and no other algorithm is at fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from diag.engine.graphs.graph import Node
from diag.engine.graphs.tf_runtime import readable_attributes, to_numpy
from diag.engine.truth.axes import axis_names
from diag.engine.truth.op_truth import OpTruth, widened
from diag.engine.truth.transforms import is_transformable
from diag.numerics.bounds import InOrder
from diag.numerics.figures import Bound
from diag.numerics.formats import Format
from diag.numerics.normwise import (
    ProductNorms,
    fast_product_bound,
    norms_of,
    normwise_bound,
    product_norms,
    transform_bound,
)
from diag.numerics.terms import MATRIX_PRODUCTS, factors_of

Wide = npt.NDArray[np.float64]


class InNorm:
    """A convolution, or a product of matrices, on its inputs; each measure is taken once.

    scale: |A||B|.
    """

    def __init__(self, node: Node, inputs: Sequence[Any], scale: npt.NDArray[Any], op_truth: OpTruth) -> None:
        self._node, self._inputs, self.scale, self._truth = node, inputs, scale, op_truth
        self._norms: dict[tuple[int, ...] | None, Wide] = {}

    @staticmethod
    def is_for(op_type: str, shape: Sequence[int]) -> bool:
        """Whether another algorithm may have computed an output of a shape: a product with a vector has none to mix."""
        return is_transformable(op_type) and not (op_type in MATRIX_PRODUCTS and 1 in shape[-2:])

    def bounds(
        self, x: npt.NDArray[Any], truth: Wide, sums: Format, lost: Callable[[], InOrder | None]
    ) -> Iterator[Bound]:
        """The output held to the bound of each algorithm that may have been used.

        sums: the format that sums are kept in.  lost: measures what plain sums lose.
        """
        if self._node.op in MATRIX_PRODUCTS:
            yield fast_product_bound(x, truth, self.scale, self.product_norms, sums)
            yield fast_product_bound(x, truth, self.scale, self.product_norms, sums, lost())
            return
        if self.mixed_scale is not None:
            yield transform_bound(x, truth, self.mixed_scale, sums)
        names = axis_names(self._node, x.ndim)
        spatial = tuple(axis for axis, name in enumerate(names) if name.endswith(("height", "width")))
        for mixed in (spatial or None, None):
            if mixed not in self._norms:
                self._norms[mixed] = norms_of(self.scale, mixed)
            yield normwise_bound(x, truth, self._norms[mixed], sums)

    @cached_property
    def mixed_scale(self) -> npt.NDArray[Any] | None:
        """The op on the largest |A| and |B| nearby, of the output's shape; None where it is not known."""
        return self._truth.mixed_scale(self._node, self._inputs)

    @cached_property
    def product_norms(self) -> ProductNorms:
        """Of the factors of a product of matrices, in float64."""
        return product_norms(
            *factors_of([to_numpy(widened(x)) for x in self._inputs], readable_attributes(self._node.proto))
        )
