"""Executing single ops eagerly: the one adapter to TensorFlow's private eager interface.

Private names used: `pywrap_tfe.TFE_Py_Execute`, `EagerTensor._numpy`, `eager.context`, `op_def_registry`, `kernels`,
`atomic_function.RUNTIME_FUNCTION_REFS`.
tests/engine/test_canary.py fails when one of them changes its meaning.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import context
from tensorflow.python.eager.polymorphic_function import atomic_function
from tensorflow.python.framework import kernels, op_def_registry

from diag.numerics.formats import Format, format_of

REALS = (tf.float32, tf.float16, tf.bfloat16, tf.float64)
COMPLEXES = (tf.complex64, tf.complex128)
FLOATS = (*REALS, *COMPLEXES)  # what is rounded; a complex number is a pair of reals
_FLOAT_ENUMS = {dtype.as_datatype_enum for dtype in FLOATS}
_COMPLEX_ENUMS = {dtype.as_datatype_enum for dtype in COMPLEXES}
_COMPLEX_OF = {tf.float32: tf.complex64, tf.float64: tf.complex128}
PYTHON_FUNCTIONS = ("PyFunc", "PyFuncStateless", "EagerPyFunc")


def known_op(op_type: str) -> Any | None:
    """The OpDef of an op type, None where there is none."""
    return op_def_registry.get(op_type)


def op_def(op_type: str) -> Any:
    """The OpDef of an op type; raises KeyError where there is none."""
    result = known_op(op_type)
    if result is None:
        raise KeyError(op_type)
    return result


def _plain(value: Any) -> Any:
    """An AttrValue as TFE_Py_Execute takes it."""
    kind = value.WhichOneof("value")
    if kind == "list":
        field = next((f.name for f, items in value.list.ListFields() if len(items)), None)
        return [] if field is None else [_plain_item(field, item) for item in getattr(value.list, field)]
    if kind == "func":
        return value.func.name.encode()
    return _plain_item(kind, getattr(value, kind))


def _plain_item(kind: str, item: Any) -> Any:
    if kind == "shape":
        return None if item.unknown_rank else [dim.size if dim.size >= 0 else None for dim in item.dim]
    if kind in ("i", "type"):
        return int(item)
    if kind == "f":
        return float(item)
    if kind == "b":
        return bool(item)
    return item


@functools.cache
def _attribute_names(op_type: str) -> frozenset[str]:
    return frozenset(attr.name for attr in op_def(op_type).attr)


def attributes(proto: Any) -> dict[str, Any]:
    """The attributes of a NodeDef that its op knows, as plain values (dtypes as enum numbers)."""
    known, values = _attribute_names(proto.op), proto.attr
    return {name: _plain(values[name]) for name in values if name in known}


class KnownAttributes:
    """The attributes of each of some NodeDefs, converted once; a proto is kept so that its id stays its own."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, dict[str, Any]]] = {}

    def of(self, proto: Any) -> dict[str, Any]:
        known = self._known.get(id(proto))
        if known is None:
            known = self._known[id(proto)] = (proto, attributes(proto))
        return known[1]


def readable_attributes(proto: Any) -> dict[str, Any]:
    """The attributes as a person would write them: dtypes by name, strings as str."""
    types = {attr.name for attr in op_def(proto.op).attr if attr.type in ("type", "list(type)")}

    def readable(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [readable(name, item) for item in value]
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        return tf.dtypes.as_dtype(value).name if name in types else value

    return {name: readable(name, value) for name, value in attributes(proto).items()}


def execute(op_type: str, inputs: Sequence[Any], attrs: dict[str, Any], num_outputs: int, device: str) -> list[Any]:
    """Execute one op at once on a device; `inputs` are EagerTensors, on any device."""
    flat = tuple(part for item in attrs.items() for part in item)  # a list is read past its end
    handle = context.context()._handle
    return list(pywrap_tfe.TFE_Py_Execute(handle, full_device(device), op_type, list(inputs), flat, num_outputs))


@functools.cache
def full_device(device: str) -> str:
    return f"/job:localhost/replica:0/task:0/device:{device}"


def cast(tensor: Any, dtype: tf.DType, device: str) -> Any:
    """An EagerTensor in another dtype; itself where it has that, wherever it lies."""
    source, target = tensor.dtype.as_datatype_enum, dtype.as_datatype_enum
    if source == target:
        return tensor
    return execute("Cast", [tensor], {"SrcT": source, "DstT": target, "Truncate": False}, 1, device)[0]


def format_of_dtype(dtype: tf.DType) -> Format:
    """The format of a floating dtype, or of a complex one's reals."""
    return format_of(dtype.real_dtype.as_numpy_dtype)


def is_float(tensor: Any) -> bool:
    """Whether an EagerTensor holds floating-point numbers, complex or not; comparing DTypes takes ten times as long."""
    return tensor.dtype.as_datatype_enum in _FLOAT_ENUMS


_REGISTERED: set[tuple[int, bytes]] = set()


def register_function(function_def: Any) -> None:
    """Make a FunctionDef known to the runtime, for good; an imported graph that calls an unknown one crashes it.

    The body of a loop is known as long as the trace that made it lives.  A graph imported from that trace may live
    longer, and nothing else counts it as a reader.
    """
    name = function_def.signature.name
    if not context.context().has_function(name):
        context.context().add_function_def(function_def)
    key = (context.context().function_scope_id, name.encode())
    if key not in _REGISTERED:
        _REGISTERED.add(key)
        references = atomic_function.RUNTIME_FUNCTION_REFS
        references[key] = references.get(key, 0) + 1


@functools.cache
def registered_kernels(op_type: str) -> tuple[tuple[str, tuple[tuple[str, frozenset[int]], ...]], ...]:
    """(device type, ((attribute, allowed dtypes), ...)) of every kernel of an op."""
    found = kernels.get_registered_kernels_for_op(op_type)
    return tuple(
        (k.device_type, tuple((c.name, frozenset(c.allowed_values.list.type)) for c in k.constraint))
        for k in found.kernel
    )


def has_kernel(op_type: str, attrs: dict[str, Any], device_type: str) -> bool:
    """Whether a device type has a kernel of this op for these attributes."""
    return _has_kernel(op_type, _types_of(op_type, attrs), device_type)


Types = tuple[tuple[str, "int | tuple[int, ...]"], ...]


def _types_of(op_type: str, attrs: Mapping[str, Any]) -> Types:
    """The attributes that are dtypes: a kernel is chosen by them alone."""
    types = [(name, attrs[name]) for name in type_attributes(op_type) if name in attrs]
    return tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in types)


@functools.cache
def _has_kernel(op_type: str, types: Types, device_type: str) -> bool:
    return any(
        device in (device_type, "DEFAULT") and _fits(constraints, dict(types))
        for device, constraints in registered_kernels(op_type)
    )


def _fits(constraints: tuple[tuple[str, frozenset[int]], ...], attrs: Mapping[str, Any]) -> bool:
    for name, allowed in constraints:
        value = attrs.get(name)
        values = value if isinstance(value, (list, tuple)) else [value]
        if allowed and not set(values) <= allowed:
            return False
    return True


def is_on_host(op_type: str, attrs: dict[str, Any], device_type: str) -> bool:
    """Whether a device type's kernel of this op for these attributes leaves all results in host memory.

    The CPU computes them there; kernels of int32 on a GPU do so.
    """
    results = {argument.name for argument in op_def(op_type).output_arg}
    fitting = [
        set(kernel.host_memory_arg)
        for kernel in kernels.get_registered_kernels_for_op(op_type).kernel
        if kernel.device_type in (device_type, "DEFAULT")
        and _fits(tuple((c.name, frozenset(c.allowed_values.list.type)) for c in kernel.constraint), attrs)
    ]
    return bool(fitting) and all(results <= kept for kept in fitting)


@functools.cache
def type_attributes(op_type: str) -> frozenset[str]:
    return frozenset(attr.name for attr in op_def(op_type).attr if attr.type in ("type", "list(type)"))


@functools.cache
def takes_handle(op_type: str) -> bool:
    """Whether the op reads or writes a variable by its handle."""
    resource = tf.resource.as_datatype_enum
    return any(argument.type == resource for argument in op_def(op_type).input_arg)


def in_double(op_type: str, attrs: dict[str, Any]) -> dict[str, Any] | None:
    """The attributes with every floating dtype in double precision, None where the CPU has no such kernel."""
    return in_dtype(op_type, attrs, tf.float64)


def in_dtype(op_type: str, attrs: dict[str, Any], dtype: tf.DType) -> dict[str, Any] | None:
    """The attributes with every floating dtype in the precision of `dtype`, None where the CPU has no such kernel."""
    wide = _types_in(op_type, _types_of(op_type, attrs), dtype)
    return None if wide is None else {**attrs, **wide}


def in_precision_of(precision: tf.DType, dtype: tf.DType) -> tf.DType:
    """A floating dtype as it is in another precision, complex if it was; others as they are."""
    return tf.dtypes.as_dtype(_in_precision_of(precision, dtype.as_datatype_enum))


def _in_precision_of(precision: tf.DType, enum: int) -> int:
    if enum in _COMPLEX_ENUMS:
        precision = _COMPLEX_OF[precision]
    return precision.as_datatype_enum if enum in _FLOAT_ENUMS else enum  # type: ignore[no-any-return]


@functools.cache
def _types_in(op_type: str, types: Types, wanted: tf.DType) -> dict[str, Any] | None:
    """The attributes that are dtypes, the floating ones made another; None where the CPU has no such kernel."""

    def widened(value: Any) -> Any:
        if isinstance(value, tuple):
            return [widened(item) for item in value]
        return _in_precision_of(wanted, value)

    if wanted not in _COMPLEX_OF and any(_holds_complex(value) for _, value in types):
        return None
    wide = {name: widened(value) for name, value in types}
    fixed = op_type in PYTHON_FUNCTIONS or op_type.startswith("LookupTable")  # what they call or hold has its dtype
    fixed |= has_fixed_floats(op_type)
    has_floats = any(_holds_float(value) for _, value in types)
    return wide if has_floats and not fixed and has_kernel(op_type, wide, "CPU") else None


@functools.cache
def has_fixed_floats(op_type: str) -> bool:
    """Whether an input or an output is of a floating dtype whatever the attributes say, as images' transforms are."""
    definition = op_def(op_type)
    return any(argument.type in _FLOAT_ENUMS for argument in [*definition.input_arg, *definition.output_arg])


def _holds_complex(value: Any) -> bool:
    return any(item in _COMPLEX_ENUMS for item in (value if isinstance(value, (list, tuple)) else [value]))


def _holds_float(value: Any) -> bool:
    return any(item in _FLOAT_ENUMS for item in (value if isinstance(value, (list, tuple)) else [value]))


def as_array(tensor: Any) -> np.ndarray:
    """The values of an EagerTensor or variable, read only; no copy where they lie in host memory.

    `tensor.numpy()` always copies.  The array keeps the tensor's buffer alive, and a variable that
    is assigned while its buffer is held gets a new one.
    """
    value = tensor.read_value() if hasattr(type(tensor), "read_value") else tensor
    array: np.ndarray = np.asarray(value._numpy())
    return array


def to_numpy(tensor: Any) -> np.ndarray:
    """As `as_array`, complex numbers as pairs of reals: (..., 2), the real part first."""
    array = as_array(tensor)
    return array if array.dtype.kind != "c" else array[..., np.newaxis].view(array.real.dtype)


def float64_array(tensor: Any) -> np.ndarray:
    """As `to_numpy`, in float64 where it was floating."""
    values = to_numpy(tensor)
    return values.astype(np.float64) if tensor.dtype in FLOATS else values


def from_pairs(array: Any, dtype: tf.DType) -> tf.Tensor:
    """What `to_numpy` gave, as a tensor of its dtype."""
    if dtype not in COMPLEXES:
        return tf.constant(array, dtype)
    return tf.constant(np.ascontiguousarray(array).view(dtype.as_numpy_dtype)[..., 0])
