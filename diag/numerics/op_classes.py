"""What kind of arithmetic each op does, and how much error that kind allows.

The classes and their bounds are those of docs/BOUNDS.md; how many ULP a place is allowed stands in
diag/data/allowances.toml, row by row with its source.
"""

from __future__ import annotations

from enum import Enum

from diag.numerics.allowances import PLACES, in_force
from diag.numerics.decompositions import is_decomposition


class ErrorClass(str, Enum):
    """How an op may err on given inputs."""

    EXACT = "exact"
    ROUNDED_ONCE = "rounded once"
    FUNCTION = "function"
    CONTRACTION = "contraction"
    COMPOSITE = "composite"


_EXACT = """
Identity IdentityN StopGradient PreventGradient Reshape Squeeze ExpandDims Transpose Concat ConcatV2 Split
SplitV Slice StridedSlice StridedSliceGrad Pad PadV2 MirrorPad Gather GatherV2 GatherNd Pack Unpack Tile
BroadcastTo Fill ZerosLike OnesLike ReverseV2 Reverse Roll OneHot Where Select SelectV2 Relu Relu6 ReluGrad
Relu6Grad MaxPool MaxPoolV2 Max Min ArgMax ArgMin TopKV2 Neg Abs Sign Floor Ceil Round Rint Maximum Minimum
Equal NotEqual Less LessEqual Greater GreaterEqual LogicalAnd LogicalOr LogicalNot IsNan IsInf IsFinite All
Any Shape ShapeN Size Rank Range ReadVariableOp AssignVariableOp TensorListStack TensorListGetItem
TensorListFromTensor SpaceToBatchND BatchToSpaceND SpaceToDepth DepthToSpace InvertPermutation
ResourceGather VariableShape Unique UniqueV2 TensorScatterUpdate MatrixDiagV3 MatrixDiagPartV3 MatrixSetDiagV3
MatrixBandPart ReadVariableXlaSplitND ClipByValue EnsureShape MaxPool3D SegmentMax SegmentMin UnsortedSegmentMax
UnsortedSegmentMin ReverseSequence DynamicStitch ParallelDynamicStitch DynamicPartition Bitcast CheckNumerics
ResizeNearestNeighbor ExtractImagePatches Complex Real Imag Conj ConjugateTranspose
""".split()

_ROUNDED_ONCE = """
Add AddV2 Sub Mul MulNoNan Square BiasAdd Cast AssignAddVariableOp AssignSubVariableOp SquaredDifference
Div RealDiv DivNoNan Reciprocal Inv Sqrt LeakyRelu LeakyReluGrad
""".split()

# Functions, and elementwise gradients of a few operations.
_FUNCTION = """
Exp Expm1 Log Log1p Sin Cos Tan Tanh Sinh Cosh Asin Acos Atan Asinh Acosh Atanh Atan2 Erf Erfc Ndtri Pow Rsqrt
Sigmoid Softplus Softsign SqrtGrad RsqrtGrad ReciprocalGrad InvGrad EluGrad Xlogy Xdivy Xlog1py FloorDiv LinSpace
""".split()

# Ops whose error is that of their sums or products: judged against u times the op on absolute values.
_CONTRACTION = """
AddN MatMul BatchMatMul BatchMatMulV2 BatchMatMulV3 Conv2D Conv2DBackpropInput Conv2DBackpropFilter Conv3D
Conv3DBackpropInputV2 Conv3DBackpropFilterV2 Conv DepthwiseConv2dNative DepthwiseConv2dNativeBackpropInput
DepthwiseConv2dNativeBackpropFilter Einsum Sum Mean BiasAddGrad AvgPool AvgPoolGrad AvgPool3D AvgPool3DGrad
MaxPoolGrad Cumsum SegmentSum SegmentSumV2 SegmentMean UnsortedSegmentSum SparseSegmentSum SparseSegmentMean
SparseSegmentSqrtN ScatterNd L2Loss ResourceScatterAdd TensorScatterAdd MirrorPadGrad
ResizeBilinear ResizeBilinearGrad ResizeNearestNeighborGrad SparseMatMul SparseTensorDenseMatMul
""".split()

CHOOSING = frozenset({"ArgMax", "ArgMin", "TopKV2"})
"""Ops that say where the largest or the smallest keys are."""

_CLASS: dict[str, ErrorClass] = {
    **dict.fromkeys(_EXACT, ErrorClass.EXACT),
    **dict.fromkeys(_ROUNDED_ONCE, ErrorClass.ROUNDED_ONCE),
    **dict.fromkeys(_FUNCTION, ErrorClass.FUNCTION),
    **dict.fromkeys(_CONTRACTION, ErrorClass.CONTRACTION),
}


def class_of(op_type: str) -> ErrorClass:
    """The class of an op; one that is not in the table is composite, judged by its own sensitivity.

    A composite for which a user gives an allowance is held to that.
    """
    known = _CLASS.get(op_type)
    if known is None:
        return ErrorClass.FUNCTION if in_force().is_yours(op_type) else ErrorClass.COMPOSITE
    return known


def allowance_ulp(op_type: str, dtype_name: str = "float32") -> float:
    """The widest allowance of any place, in ULP; raises KeyError for an op that no row is about."""
    row = in_force().widest(op_type, dtype_name, PLACES)
    if row is None:
        raise KeyError(op_type)
    return row.ulp


def is_random(op_type: str) -> bool:
    """Ops that draw random numbers (not those that only make a key from a seed)."""
    if "GetKeyCounter" in op_type or "GetAlg" in op_type:
        return False
    return any(word in op_type for word in ("Random", "TruncatedNormal", "Shuffle", "Multinomial"))


def is_free(op_type: str) -> bool:
    """Ops whose inputs leave some of their results open: random numbers, signs, winners among equals.

    Units take the reference's.
    """
    return is_random(op_type) or is_decomposition(op_type) or op_type in CHOOSING


def is_product(op_type: str) -> bool:
    """Ops that a tensor core may compute."""
    return op_type.startswith(("Conv", "DepthwiseConv", "MatMul", "BatchMatMul", "Einsum"))
