"""What kind of arithmetic each op does, and how much error that kind allows.

The classes and their bounds are those of docs/BOUNDS.md.  Allowances are in ULP of the result's
own format; a place that has no row gets the OpenCL full profile's, the most generous published
one for most functions.  Sources:

- OpenCL C 3.0 specification, section 7.4, "Relative Error as ULPs", full profile
- XLA, xla/codegen/intrinsic/accuracy and xla/tests/exhaustive (CPU bounds)
- Eigen, generic packet math functions as used by TensorFlow's CPU kernels
- CUDA C++ Programming Guide, "Mathematical Functions", single precision
"""

from __future__ import annotations

from enum import Enum


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
ResourceGather VariableShape Unique UniqueV2 Cumprod ScatterNd TensorScatterUpdate MatrixDiagV3
MatrixBandPart ReadVariableXlaSplitND ClipByValue EnsureShape
""".split()

_ROUNDED_ONCE = {
    "Add": 0.5, "AddV2": 0.5, "Sub": 0.5, "Mul": 0.5, "MulNoNan": 0.5, "Square": 0.5, "BiasAdd": 0.5, "Cast": 0.5,
    "AssignAddVariableOp": 0.5, "AssignSubVariableOp": 0.5,
    "SquaredDifference": 2.5,  # the rounding of the difference counts twice in its square
    "Div": 2.5, "RealDiv": 2.5, "DivNoNan": 2.5, "Reciprocal": 2.5, "Inv": 2.5,  # OpenCL: x / y
    "Sqrt": 3.0,  # OpenCL: sqrt
    "LeakyRelu": 0.5, "LeakyReluGrad": 0.5,
}  # fmt: skip

# OpenCL full profile; where XLA's or Eigen's own table is wider, that (named beside it).
_FUNCTION = {
    "Exp": 3.0, "Expm1": 3.0, "Log": 3.0, "Log1p": 4.0, "Sin": 4.0, "Cos": 4.0, "Tan": 5.0, "Tanh": 6.0,  # Eigen: 6
    "Sinh": 25.0,  # XLA CPU
    "Cosh": 4.0, "Asin": 4.0, "Acos": 4.0, "Atan": 5.0, "Asinh": 4.0, "Acosh": 4.0, "Atanh": 5.0, "Atan2": 6.0,
    "Erf": 16.0, "Erfc": 16.0, "Erfinv": 16.0, "Ndtri": 16.0, "Pow": 16.0,
    "Rsqrt": 2.5,  # published: 2 (OpenCL, CUDA, XLA, Eigen); TensorFlow 2.21 on a Xeon with AVX-512: 2.142 measured
    "Sigmoid": 7.0,  # Eigen: 7
    "Softplus": 16.0, "Softsign": 4.0, "Elu": 6.0, "Selu": 6.0,  # composites of exp; 2 x exp
}  # fmt: skip

# Ops whose error is that of their sums or products: judged against u times the op on absolute values.
_CONTRACTION = """
AddN MatMul BatchMatMul BatchMatMulV2 BatchMatMulV3 Conv2D Conv2DBackpropInput Conv2DBackpropFilter Conv3D
Conv3DBackpropInputV2 Conv3DBackpropFilterV2 Conv DepthwiseConv2dNative DepthwiseConv2dNativeBackpropInput
DepthwiseConv2dNativeBackpropFilter Einsum Sum Mean BiasAddGrad AvgPool AvgPoolGrad MaxPoolGrad Cumsum
SegmentSum SegmentMean UnsortedSegmentSum SparseSegmentSum L2Loss ResourceScatterAdd TensorScatterAdd
ResizeBilinear ResizeBilinearGrad SparseMatMul SparseTensorDenseMatMul
""".split()

# Elementwise gradients of a few operations: each is a short product, with its own allowance in ULP.
_SHORT_PRODUCTS = {
    "TanhGrad": 4.0, "SigmoidGrad": 4.0, "SqrtGrad": 4.0, "RsqrtGrad": 4.0, "ReciprocalGrad": 4.0,
    "InvGrad": 4.0, "EluGrad": 4.0, "SeluGrad": 4.0, "SoftplusGrad": 8.0, "SoftsignGrad": 8.0,
    "Xlogy": 8.0, "Xdivy": 4.0, "Xlog1py": 8.0, "FloorMod": 2.0, "FloorDiv": 2.0, "Mod": 2.0, "LinSpace": 4.0,
}  # fmt: skip

# Of these, the parts that subtract can cancel, and an ULP of the result says nothing.
_CANCELLING = {"TanhGrad", "SigmoidGrad", "SoftsignGrad", "Expm1Grad", "FloorMod", "Mod"}

ALLOWANCE_ULP: dict[str, float] = {**_ROUNDED_ONCE, **_FUNCTION, **_SHORT_PRODUCTS}
_CLASS: dict[str, ErrorClass] = {
    **dict.fromkeys(_EXACT, ErrorClass.EXACT),
    **dict.fromkeys(_ROUNDED_ONCE, ErrorClass.ROUNDED_ONCE),
    **dict.fromkeys(_FUNCTION, ErrorClass.FUNCTION),
    **dict.fromkeys(_CONTRACTION, ErrorClass.CONTRACTION),
    **{op: ErrorClass.FUNCTION for op in _SHORT_PRODUCTS if op not in _CANCELLING},
}


def class_of(op_type: str) -> ErrorClass:
    """The class of an op; one that is not in the table is composite, judged by its own sensitivity."""
    return _CLASS.get(op_type, ErrorClass.COMPOSITE)


def allowance_ulp(op_type: str) -> float:
    """The published allowance in ULP; raises KeyError for an op that is not judged by one."""
    return ALLOWANCE_ULP[op_type]
