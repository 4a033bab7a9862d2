"""A standalone program of one op or layer: what a vendor can run with nothing but TensorFlow and NumPy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from diag.common.code_text import in_docstring, literal
from diag.common.files import replacing, write_text
from diag.common.text import as_text
from diag.engine.graphs.executable import with_fetches
from diag.engine.graphs.graph import Port
from diag.engine.graphs.tf_runtime import as_array, op_def, readable_attributes
from diag.engine.recordings.emitted_contents import Contents, contents_of, inputs_of
from diag.engine.recordings.replaying_units import LayerReplay, OpReplay
from diag.engine.step.program import Program
from diag.errors import UserError
from diag.machine.places import Place

OP = '''"""{title}

TensorFlow {version}. Its inputs are in {data}. Compares a device with the CPU, and both with the CPU in float64
where the op has such a kernel.
{holds}"""

from pathlib import Path

import numpy as np
import tensorflow as tf

with np.load(Path(__file__).with_suffix(".npz")) as file:
    data = dict(file)
device = {device}
dtypes = {dtypes}
are_variables = {are_variables}
inputs = [tf.bitcast(data[f"input_{{i}}"], t) if t == "bfloat16" else tf.constant(data[f"input_{{i}}"], t)
          for i, t in enumerate(dtypes)]
attributes = {attributes}


def wide(x):
    return tf.cast(x, "complex128" if x.dtype.is_complex else "float64")


def run(device, values, attributes=attributes):
    with tf.device(device):
        variables = [tf.Variable(x) if is_one else x for x, is_one in zip(values, are_variables)]
        given = [x.handle if is_one else x for x, is_one in zip(variables, are_variables)]
        result = tf.raw_ops.{op}(**dict(zip({names}, given)), **attributes)
    return [wide(x).numpy() for x in tf.nest.flatten(result)]


def in_double(values):
    of_complex = {{k: attributes[k] for k in ("Tcomplex", "Treal", "Tout") if k in attributes}}
    doubles = {{k: {{"complex64": "complex128", "float32": "float64"}}.get(v, v) for k, v in of_complex.items()}}
    values = [wide(x) if x.dtype.is_floating or x.dtype.is_complex else x for x in values]
    try:
        return run("CPU:0", values, {{**attributes, **doubles}})
    except (TypeError, ValueError, tf.errors.OpError):
        return None


print("TensorFlow", tf.__version__, tf.config.list_logical_devices())
here, there, truth = run("CPU:0", inputs), run(device, inputs), in_double(inputs)
for k, (cpu, other) in enumerate(zip(here, there)):
    print(f"output {{k}}: largest difference {{np.max(np.abs(cpu - other), initial=0):.6g}}, "
          f"largest value {{np.max(np.abs(cpu), initial=0):.6g}}, {{np.sum(cpu != other)}} of {{cpu.size}} differ")
    if truth is not None:
        errors = [np.max(np.abs(x - truth[k]), initial=0) for x in (cpu, other)]
        print(f"  largest error against float64: CPU {{errors[0]:.6g}}, {{device}} {{errors[1]:.6g}}")
'''

LAYER = '''"""{title}

TensorFlow {version}. The graph and its inputs are in {data}. Runs it compiled on a device, and op by op on the CPU.
{holds}"""

from pathlib import Path

import numpy as np
import tensorflow as tf

with np.load(Path(__file__).with_suffix(".npz")) as file:
    data = dict(file)
device = {device}
graph = tf.compat.v1.GraphDef.FromString(data["graph"].tobytes())
feeds, captures, fetches = {feeds}, {captures}, {fetches}
names = {names}


def load(name, dtype):
    value = data["value|" + name.replace("/", "|")]
    return tf.bitcast(value, dtype) if dtype == "bfloat16" else tf.constant(value, dtype)


def run(device, eagerly):
    with tf.device(device):
        values = {{name: load(name, dtype) for name, dtype in feeds.items()}}
        state = {{name: tf.Variable(load(name, dtype)) for name, dtype in captures.items()}}

    @tf.function(autograph=False, jit_compile={xla})
    def step(values):
        handles = {{k: tf.compat.v1.get_default_graph().capture(v.handle) for k, v in state.items()}}
        with tf.device(device):
            return tf.graph_util.import_graph_def(graph, {{**values, **handles}}, fetches, name="")

    if eagerly:  # no graph optimizer, so no fusion
        tf.config.optimizer.set_experimental_options({{"disable_meta_optimizer": True}})
    found = [tf.convert_to_tensor(x) for x in [*step(values), *state.values()]]
    found = [tf.cast(x, "complex128" if x.dtype.is_complex else "float64").numpy() for x in found]
    tf.config.optimizer.set_experimental_options({{"disable_meta_optimizer": False}})
    return found


print("TensorFlow", tf.__version__, tf.config.list_logical_devices())
here, there = run("CPU:0", True), run(device, False)
for name, cpu, other in zip(names, here, there):
    print(f"{{name}}: largest difference {{np.max(np.abs(cpu - other), initial=0):.6g}}, "
          f"largest value {{np.max(np.abs(cpu), initial=0):.6g}}, {{np.sum(cpu != other)}} of {{cpu.size}} differ")
'''


def check_place(place: Place) -> None:
    """Raises UserError for a simulated place: its fault is in no program but this one."""
    if place.is_simulated:
        raise UserError(f"--emit: {place} is simulated; its fault lives in tf-lockstep alone; name a real --place")


def emit(path: Path, part: OpReplay | LayerReplay, program: Program, place: Place) -> str:
    """Write FILE.py and FILE.npz; what of the person's own is in them, in words, or nothing.

    Raises:
      UserError: the op cannot be run by itself, or the files cannot be written.
    """
    fill, arrays, ports = _op(part, program) if isinstance(part, OpReplay) else _layer(part, program, place)
    data = path.with_suffix(".npz")
    holds = _in_words(data.name, contents_of(ports, program))
    named = {"version": tf.__version__, "data": in_docstring(data.name), "device": literal(place.device)}
    text = fill(**named, holds=f"\n{in_docstring(holds)}\n" if holds else "")
    try:
        with replacing(data, is_new=True) as unfinished:
            with unfinished.open("wb") as file:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
            write_text(path, text, is_new=True)  # whatever there is of the two is whole
    except OSError as error:
        raise UserError(f"--emit {path}: {error.strerror or error}; name a file that can be written") from error
    return holds


def _in_words(data: str, contents: Contents) -> str:
    holds = contents.in_words()
    return f"{data} holds {holds}: send it only to whom you would send these." if holds else ""


Fill = Callable[..., str]
Made = tuple[Fill, dict[str, np.ndarray], Sequence[Port]]


def _op(part: OpReplay, program: Program) -> Made:
    node, evidence = part.node, part.evidence[0]
    definition = op_def(node.op)
    inputs = [as_array(x) for x in evidence.inputs]
    attributes = {name: value for name, value in readable_attributes(node.proto).items() if not name.startswith("_")}
    names = _parameters(node.op, attributes)
    if names is None:
        raise UserError(f"--emit: tf.raw_ops cannot run {node.op} by itself; name its layer with --layer")
    inferred = {a for arg in definition.input_arg for a in (arg.type_attr,) if a}
    try:
        attribute_code = literal({name: value for name, value in attributes.items() if name not in inferred})
    except TypeError as error:
        raise UserError(f"--emit: an attribute of {node.op} has no code; name its layer with --layer") from error
    fill = partial(
        OP.format,
        title=in_docstring(f"{node.op} of {node.location.layer}, {node.location.phase}"),
        dtypes=literal([x.dtype.name for x in inputs]),
        are_variables=literal([arg.type == tf.resource.as_datatype_enum for arg in definition.input_arg]),
        attributes=attribute_code,
        op=node.op,
        names=literal(names),
    )
    return fill, {f"input_{index}": _plain(x) for index, x in enumerate(inputs)}, inputs_of(node, program)


def _parameters(op: str, attributes: Mapping[str, Any]) -> list[str] | None:
    """What `tf.raw_ops` calls an op's inputs; None where it cannot run the op by itself.

    It renames some (Sum's `reduction_indices` is its `axis`) and keeps their order.
    """
    definition, function = op_def(op), getattr(tf.raw_ops, op, None)
    takes_list = any(arg.number_attr or arg.type_list_attr for arg in definition.input_arg)
    if function is None or not op.isidentifier() or takes_list or not definition.output_arg:
        return None
    parameters = [name for name in inspect.signature(function).parameters if name != "name"]
    inferred = {arg.type_attr for arg in definition.input_arg}
    others = [name for name in parameters if name not in attributes]
    missing = [name for name in attributes if name not in parameters and name not in inferred]
    return others if len(others) == len(definition.input_arg) and not missing else None


def _layer(part: LayerReplay, program: Program, place: Place) -> Made:
    chosen = [number for number, unit in enumerate(part.units) if unit.variable is None] or [0]
    number = max(chosen, key=lambda number: len(part.units[number].joined))  # with the layers it is compiled with
    unit, boundary = part.units[number], part.boundaries[number]  # the layer's own, not an update
    executable = unit.executable
    feeds = dict(zip(executable.feeds, map(as_array, boundary), strict=True))
    captures = {name: as_array(part.state[index]) for name, index in executable.captures.items()}
    constants = {name: as_array(value) for name, value in executable.constants.items()}
    graph_def = with_fetches(executable)
    given = {**feeds, **constants, **captures}
    kept = [node for node in graph_def.node if node.name not in given]
    used = {text.lstrip("^").split(":")[0] for node in kept for text in node.input}
    del graph_def.node[:]
    graph_def.node.extend(kept)
    updated = [program.variables[index].name for name, index in executable.captures.items() if name in used]
    arrays = {"value|" + name.replace("/", "|"): _plain(x) for name, x in given.items() if name in used}
    fill = partial(
        LAYER.format,
        title=in_docstring(f"Layer {unit.name}: {len(executable.graph.nodes)} ops, compiled together"),
        feeds=literal({name: x.dtype.name for name, x in {**feeds, **constants}.items() if name in used}),
        captures=literal({name: x.dtype.name for name, x in captures.items() if name in used}),
        fetches=literal([f"fetch/{index}:0" for index in range(len(executable.fetches))]),
        names=literal([as_text(name) for name in (*map(str, executable.fetches), *updated)]),  # it prints them
        xla=literal(place.execution == "xla"),
    )
    graph = np.frombuffer(graph_def.SerializeToString(), np.uint8)
    handles = [Port(name, 0) for name in captures if name in used]
    return fill, {"graph": graph, **arrays}, [*unit.boundary, *handles]


def _plain(array: np.ndarray) -> np.ndarray:
    """NumPy's own files know no bfloat16: its bits."""
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array
