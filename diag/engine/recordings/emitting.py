"""A program of one op or layer, of at most 20 lines beside its data: what a vendor can put into a test suite.

It needs nothing but TensorFlow and NumPy, holds what is right in float64, prints each error beside its bound and PASS
or FAIL, and ends with 0 or 1.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
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
from diag.engine.truth.naming import where_of
from diag.engine.truth.op_judge import OpJudge
from diag.engine.truth.op_truth import CPU
from diag.engine.truth.tolerance import Tolerance, tolerances_of_op, tolerances_of_unit
from diag.errors import UserError
from diag.machine.places import Place

HEAD = '''"""{title}. Written by TensorFlow {tensorflow}, Keras {keras}, NumPy {numpy}. {holds}"""
import pathlib, sys, numpy as np, tensorflow as tf
data, device = dict(np.load(pathlib.Path(__file__).with_suffix(".npz"))), {device}
given = [tf.bitcast(data[f"given_{{i}}"], t) if t == "bfloat16" else tf.constant(data[f"given_{{i}}"], t) \
for i, t in enumerate(data["dtypes"].tolist())]
'''.replace("\\\n", "")
OP = """with tf.device(device):
    variables = [tf.Variable(x) if is_one else x for x, is_one in zip(given, {are_variables})]
    given = [x.handle if isinstance(x, tf.Variable) else x for x in variables]
    found = tf.nest.flatten(tf.raw_ops.{op}(**dict(zip({names}, given)), **{attributes}))
"""
LAYER = """graph = tf.compat.v1.GraphDef.FromString(data["graph"].tobytes())
with tf.device(device): variables = [tf.Variable(x) for x in given[{num_feeds}:]]
def step(feeds):
    named = dict(zip(data["inputs"].tolist(), [*feeds, *(tf.compat.v1.get_default_graph().capture(x.handle) \
for x in variables)]))
    with tf.device(device): return tf.graph_util.import_graph_def(graph, named, data["fetches"].tolist(), name="")
found = [*tf.function(step, autograph=False, jit_compile={xla})(given[:{num_feeds}]), \
*(variables[i] for i in data["written"])]
"""
JUDGE = """excesses = []
for k, (name, x) in enumerate(zip(data["names"], map(np.atleast_1d, found))):
    x, right = x.view(x.real.dtype).astype(float), data[f"right_{k}"]  # right in float64
    off = np.where((x == right) | (np.isnan(x) & np.isnan(right)), 0, \
np.nan_to_num(np.maximum(abs(x - right) - data[f"free_{k}"], 0), nan=np.inf))
    tried = [(off / data[f"unit_{k}_{j}"], *limits) for j, limits in enumerate(data[f"limits_{k}"])]
    excess, error, bound = min(max((a / max(b, 5e-324), a, b) for a, b in ((((e * e).sum() / max(e.size, 1)) ** 0.5, \
rms), (e.max(initial=0), most))) for e, rms, most in tried)  # whichever way to be right is nearest, its worse figure
    print(f"{name}: error {error:.6g}, bound {bound:.6g}: {'PASS' if excess <= 1 else 'FAIL'}")
    excesses.append(excess)
print("FAIL" if max(excesses) > 1 else "PASS", "on", device, "of TensorFlow", tf.__version__, "NumPy", np.__version__)
sys.exit(int(max(excesses) > 1))
"""


def emit(path: Path, part: OpReplay | LayerReplay, program: Program, place: Place) -> str:
    """Write FILE.py and FILE.npz; what of the person's own is in them, in words, or nothing.

    Raises:
      UserError: the op or layer cannot be run by itself, has no right values, or the files cannot be written.
    """
    made = _op(part, program, place) if isinstance(part, OpReplay) else _layer(part, program, place)
    data = path.with_suffix(".npz")
    holds = _in_words(data.name, contents_of(made.ports, program))
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__}
    head = HEAD.format(
        title=in_docstring(made.title), holds=in_docstring(holds), device=literal(place.device), **versions
    )
    try:
        with replacing(data, is_new=True) as unfinished:
            with unfinished.open("wb") as file:
                np.savez_compressed(file, **made.arrays, **_judged(made.names, made.tolerances))  # type: ignore[arg-type]
            write_text(path, head + made.code + JUDGE, is_new=True)  # whatever there is of the two is whole
    except OSError as error:
        raise UserError(f"--emit {path}: {error.strerror or error}; name a file that can be written") from error
    return holds


def _in_words(data: str, contents: Contents) -> str:
    holds = contents.in_words()
    return f"{data} holds {holds}: send it only to whom you would send these." if holds else ""


@dataclass(frozen=True)
class _Made:
    """What computes the outputs: code that leaves them in `found`, and its arrays; names and tolerances of each.

    ports: whose values the arrays hold.
    """

    title: str
    code: str
    arrays: Mapping[str, np.ndarray]
    names: Sequence[str]
    tolerances: Sequence[Tolerance]
    ports: Sequence[Port]


def _judged(names: Sequence[str], tolerances: Sequence[Tolerance]) -> dict[str, np.ndarray]:
    """What the outputs are held against; complex ones are pairs of reals along the last axis."""
    arrays = {"names": np.array(names)}
    for k, each in enumerate(tolerances):
        arrays |= {f"right_{k}": each.right, f"free_{k}": each.free}
        arrays |= {f"unit_{k}_{j}": limit.unit for j, limit in enumerate(each.limits)}
        arrays[f"limits_{k}"] = np.array([(limit.rms, limit.max) for limit in each.limits])
    return arrays


def _given(arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Inputs as NumPy's own files take them: bfloat16, which these do not know, as its bits."""
    plain = [x.view(np.uint16) if x.dtype.name == "bfloat16" else x for x in arrays]
    return {"dtypes": np.array([x.dtype.name for x in arrays]), **{f"given_{i}": x for i, x in enumerate(plain)}}


def _op(part: OpReplay, program: Program, place: Place) -> _Made:
    node, evidence = part.node, part.evidence[0]
    definition = op_def(node.op)
    attributes = {name: value for name, value in readable_attributes(node.proto).items() if not name.startswith("_")}
    names = _parameters(node.op, attributes)
    if names is None:
        raise UserError(f"--emit: tf.raw_ops cannot run {node.op} by itself; name its layer with --layer")
    if tf.variant in [tensor.dtype for tensor in evidence.inputs]:
        raise UserError(f"--emit: {node.op} reads a list, which no file can hold; name its layer with --layer")
    inferred = {a for arg in definition.input_arg for a in (arg.type_attr,) if a}
    try:
        attribute_code = literal({name: value for name, value in attributes.items() if name not in inferred})
    except TypeError as error:
        raise UserError(f"--emit: an attribute of {node.op} has no code; name its layer with --layer") from error
    tolerances = tolerances_of_op(evidence, OpJudge(CPU, place))
    code = OP.format(
        are_variables=literal([arg.type == tf.resource.as_datatype_enum for arg in definition.input_arg]),
        attributes=attribute_code,
        op=node.op,
        names=literal(names),
    )
    return _Made(
        title=f"{node.op} of {node.location.layer}, {node.location.phase}",
        code=code,
        arrays=_given([as_array(x) for x in evidence.inputs]),
        names=[f"output {number}" for number in range(len(tolerances))],
        tolerances=[_in_a_row(each, dtype.is_complex) for each, dtype in zip(tolerances, node.dtypes, strict=False)],
        ports=inputs_of(node, program),
    )


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


def _layer(part: LayerReplay, program: Program, place: Place) -> _Made:
    chosen = [number for number, unit in enumerate(part.units) if unit.variable is None] or [0]
    number = max(chosen, key=lambda number: len(part.units[number].joined))  # with the layers it is compiled with
    unit, unit_run = part.units[number], part.unit_runs[number]  # the layer's own, not an update
    executable = unit.executable
    feeds = dict(zip(executable.feeds, map(as_array, unit_run.boundary), strict=True))
    feeds |= {name: as_array(value) for name, value in executable.constants.items()}
    captures = {name: as_array(unit_run.state[index]) for name, index in executable.captures.items()}
    graph_def = with_fetches(executable)
    kept = [node for node in graph_def.node if node.name not in {**feeds, **captures}]
    used = {text.lstrip("^").split(":")[0] for node in kept for text in node.input}
    del graph_def.node[:]
    graph_def.node.extend(kept)
    feeds, captures = ({name: x for name, x in each.items() if name in used} for each in (feeds, captures))
    variables = [executable.captures[name] for name in captures]
    written = [index for index in unit.writes if index in variables]
    tolerances = tolerances_of_unit(unit_run, part.judge)
    names = [where_of(program, part.judge.order, unit_run, index).name for index in range(len(tolerances))]
    if not tolerances or len(written) != len(unit.writes):
        raise UserError(
            f"--emit: {as_text(unit.name)} computes nothing that a program could hold right; name an op of it"
        )
    complexes = [executable.graph.dtype(port).is_complex for port in executable.fetches] + [False] * len(written)
    arrays = {
        "graph": np.frombuffer(graph_def.SerializeToString(), np.uint8),
        "inputs": np.array([*feeds, *captures]),
        "fetches": np.array([f"fetch/{index}:0" for index in range(len(executable.fetches))], str),
        "written": np.array([variables.index(index) for index in written], int),
    }
    return _Made(
        title=f"Layer {unit.name}: {len(executable.graph.nodes)} ops, compiled together",
        code=LAYER.format(num_feeds=len(feeds), xla=literal(place.execution == "xla")),
        arrays={**arrays, **_given([*feeds.values(), *captures.values()])},
        names=[as_text(name) for name in names],  # it prints them
        tolerances=[_in_a_row(*each) for each in zip(tolerances, complexes, strict=True)],
        ports=[*unit.boundary, *(Port(name, 0) for name in captures)],
    )


def _in_a_row(tolerance: Tolerance, is_complex: bool) -> Tolerance:
    """As the program has the output: at least one axis, the last of real and imaginary parts by turns."""

    def shaped(x: np.ndarray) -> np.ndarray:
        if x.ndim < tolerance.right.ndim:
            return x
        return np.atleast_1d(x.reshape(*x.shape[:-2], -1) if is_complex and x.ndim > 1 else x)

    limits = tuple(replace(limit, unit=shaped(np.asarray(limit.unit))) for limit in tolerance.limits)
    return Tolerance(shaped(tolerance.right), shaped(tolerance.free), limits)
