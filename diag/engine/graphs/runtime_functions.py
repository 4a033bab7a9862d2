"""A graph as a function of TensorFlow's runtime, given to it as it is: neither imported nor traced by Python.

`tf.function` would make Python objects of every node, twice over; the runtime needs none of them.  What a trace adds
is added here: nodes that nothing needs are left out, and ops on one variable keep the order in which they are written
(TensorFlow, python/framework/auto_control_deps.py).

Graphs that differ in the names of their nodes alone are one function, so that the runtime optimizes, places and builds
kernels for it once.
"""

from __future__ import annotations

import hashlib
import itertools
import weakref
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, ClassVar

import tensorflow as tf
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.protobuf.config_pb2 import ConfigProto, OptimizerOptions
from tensorflow.python.eager import context
from tensorflow.python.eager import execute as eager_execute
from tensorflow.python.framework.auto_control_deps import LEGACY_RANDOM_OPS

from diag.engine.graphs.editing import XLA, outputs_of
from diag.engine.graphs.graph import READ_OPS, parse_input
from diag.engine.graphs.reachability import in_order_of_reading, reachable
from diag.engine.graphs.tf_runtime import full_device, op_def

_counter = itertools.count()
_READ_ONLY = {*READ_OPS, "VariableShape", "VarIsInitializedOp", "ResourceGather", "ResourceGatherNd"}


@dataclass(frozen=True)
class Argument:
    """What a function is given in place of a node of the graph; shape: None where any will do."""

    node: str
    dtype: tf.DType
    shape: tf.TensorShape | None = None


class RuntimeFunction:
    """A FunctionDef that the runtime knows as long as this object lives."""

    _known: ClassVar[weakref.WeakValueDictionary[bytes, RuntimeFunction]] = weakref.WeakValueDictionary()

    def __init__(self, definition: Definition) -> None:
        self.name = f"lockstep_{next(_counter)}"
        self.num_outputs = len(definition.results)
        context.context().add_function_def(definition.proto(self.name))
        weakref.finalize(self, _forget, self.name, context.context())

    @classmethod
    def of(cls, definition: Definition) -> RuntimeFunction:
        """The function of this definition, or one that is the same but for names."""
        known = cls._known.get(definition.structure)
        if known is None:
            known = cls._known[definition.structure] = cls(definition)
        return known

    def __call__(self, inputs: Sequence[Any], is_optimized: bool = True) -> list[Any]:
        """The outputs, on eager tensors; not `is_optimized`: without graph optimizers, whatever is set."""
        current = context.context()
        attrs = {"executor_type": "", "config_proto": _unoptimized()}
        if is_optimized:
            attrs = current.function_call_options.as_attrs()
        flat = tuple(itertools.chain(*attrs.items()))
        return list(eager_execute.execute(self.name, self.num_outputs, list(inputs), flat, current) or ())


def execute_by_xla(proto: Any, inputs: Sequence[Any], num_outputs: int, device: str) -> list[Any]:
    """Outputs of one op, a NodeDef, on eager tensors, as XLA compiles it by itself."""
    alone = type(proto)()
    alone.CopyFrom(proto)
    alone.ClearField("input")
    arguments = [Argument(f"input_{at}", tensor.dtype, tensor.shape) for at, tensor in enumerate(inputs)]
    alone.input.extend(argument.node for argument in arguments)
    results = [f"{alone.name}:{at}" for at in range(num_outputs)]
    return RuntimeFunction.of(Definition([alone], arguments, results, full_device(device), is_xla=True))(inputs)


def _forget(name: str, owner: Any) -> None:
    if owner.has_function(name):
        owner.remove_function(name)


@cache
def _unoptimized() -> bytes:
    config = ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.optimizer_options.opt_level = OptimizerOptions.L0
    return config.SerializeToString()  # type: ignore[no-any-return]


class Definition:
    """A graph with arguments in place of some nodes, as the runtime takes it.

    results: the outputs (`node:index`) to return, in order.  device: of nodes that name none.
    """

    def __init__(
        self, nodes: Iterable[Any], arguments: Sequence[Argument], results: Sequence[str], device: str, is_xla: bool
    ) -> None:
        self.arguments, self.results, self.device, self.is_xla = arguments, results, device, is_xla
        self.argument_of = {argument.node: index for index, argument in enumerate(arguments)}
        self.by_name = {node.name: node for node in nodes if node.name not in self.argument_of}
        self.inputs = {name: [parse_input(text) for text in node.input] for name, node in self.by_name.items()}
        self.effects = [name for name, node in self.by_name.items() if has_effect(node.op)]
        self.kept = self._kept()

    def _kept(self) -> list[str]:
        """What leads to a result or has an effect, each after what it reads."""
        start = [*(parse_input(text)[0] for text in self.results), *self.effects]
        needed = reachable(start, lambda name: [source for source, _ in self.inputs.get(name, ())])
        return in_order_of_reading({name: [n for n, _ in self.inputs[name]] for name in self.by_name if name in needed})

    @cached_property
    def waits(self) -> dict[str, list[str]]:
        """For ops on a variable: which ops before them have to be over."""
        handles = {(a.node, 0): index for index, a in enumerate(self.arguments) if a.dtype == tf.resource}
        written: dict[int, str] = {}
        read: dict[int, list[str]] = defaultdict(list)
        waits: dict[str, list[str]] = {}
        for name in self.kept if handles else ():
            used = dict.fromkeys(handles[port] for port in self.inputs[name] if port in handles)
            if self.by_name[name].op == "Identity":
                handles.update(((name, 0), variable) for variable in used)
                continue
            for variable in used:
                before = [written[variable]] if variable in written else []
                if self.by_name[name].op in _READ_ONLY:
                    read[variable].append(name)
                else:
                    before += read.pop(variable, ())
                    written[variable] = name
                waits[name] = [*waits.get(name, ()), *before]
        return waits

    @cached_property
    def structure(self) -> bytes:
        """What is the same for graphs that differ in names alone; what waits for what follows from it."""
        digest = hashlib.blake2b(repr([(a.dtype.name, str(a.shape)) for a in self.arguments]).encode())
        number = {argument.node: -1 - index for index, argument in enumerate(self.arguments)}
        number.update((name, index) for index, name in enumerate(self.kept))
        for name in self.kept:
            node = self.by_name[name]
            wired = [(number[source], index) for source, index in self.inputs[name] if source in number]
            digest.update(repr((node.op, node.device, wired)).encode())
            for key in sorted(node.attr):
                if key != "_class":
                    digest.update(key.encode() + node.attr[key].SerializeToString(deterministic=True))
        ends = [(number[source], index) for source, index in map(parse_input, self.results)]
        digest.update(repr((ends, self.device, self.is_xla)).encode())
        return digest.digest()

    def proto(self, name: str) -> Any:
        """The FunctionDef."""
        result = FunctionDef()
        signature = result.signature
        signature.name = name
        signature.is_stateful = bool(self.effects)
        for index, argument in enumerate(self.arguments):
            signature.input_arg.add(name=f"argument_{index}", type=argument.dtype.as_datatype_enum)
            if argument.shape is not None:
                shapes = result.arg_attr[index].attr["_output_shapes"].list
                shapes.shape.add().CopyFrom(argument.shape.as_proto())
        written = _Written(self)
        for each in self.kept:
            node = result.node_def.add()
            node.CopyFrom(self.by_name[each])
            node.device = node.device or self.device
            control = dict.fromkeys([*(n for n, i in self.inputs[each] if i is None), *self.waits.get(each, ())])
            data = [written.port(source, index) for source, index in self.inputs[each] if index is not None]
            node.ClearField("input")
            node.input.extend([*data, *(f"^{n}" for n in control if n in self.by_name)])
            self._stand_alone(node)
        for index, text in enumerate(self.results):
            source, output = parse_input(text)
            signature.output_arg.add(name=f"result_{index}", type=written.dtype(source, output or 0))
            result.ret[f"result_{index}"] = written.port(source, output or 0)
        for effect in self.effects:
            signature.control_output.append(effect)
            result.control_ret[effect] = effect
        result.attr["_construction_context"].s = b"kEagerRuntime"
        if self.is_xla:
            result.attr[XLA].b = True
        return result

    def _stand_alone(self, node: Any) -> None:
        """Forget that a node wanted to be where one is that is not in the graph."""
        wanted = node.attr["_class"].list.s if "_class" in node.attr else ()
        left = [name for name in wanted if name.decode().removeprefix("loc:@") in self.by_name]
        if len(left) < len(wanted):
            del node.attr["_class"]
            if left:
                node.attr["_class"].list.s.extend(left)


class _Written:
    """How a FunctionDef writes what its nodes read."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.names: dict[str, list[tuple[str, int]]] = {}

    def port(self, source: str, index: int) -> str:
        """`argument_0` or `node:output_name:0`."""
        definition = self.definition
        if source in definition.argument_of:
            return f"argument_{definition.argument_of[source]}"
        return f"{source}:{self._outputs(source)[index][0]}"

    def dtype(self, source: str, index: int) -> int:
        """As a number of the DataType enum."""
        definition = self.definition
        if source in definition.argument_of:
            enum: int = definition.arguments[definition.argument_of[source]].dtype.as_datatype_enum
            return enum
        return self._outputs(source)[index][1]

    def _outputs(self, source: str) -> list[tuple[str, int]]:
        if source not in self.names:
            self.names[source] = outputs_of(self.definition.by_name[source])
        return self.names[source]


@cache
def has_effect(op_type: str) -> bool:
    """As the trace of a `tf.function` has it: such ops run, whether or not anything reads them."""
    return bool(op_def(op_type).is_stateful) and op_type not in LEGACY_RANDOM_OPS
