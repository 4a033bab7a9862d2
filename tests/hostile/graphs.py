"""Traces whose training step does more than to compute, each a sound one with something put into its graph.

`python -m tests.hostile.graphs FOLDER` writes the files.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef

from diag.engine.graphs.editing import make_node, outputs_of
from diag.engine.graphs.graph import IF_OPS
from tests import traced
from traces.checksums import bytes_checksum

LAYER = "a"
"""The layer of the sound step that what is put in is said to belong to."""
TARGET = "written"
"""The file, beside the trace, that those write which write one."""
SECRET = "what nobody may read"

Document = dict[str, Any]


@dataclass
class Step:
    """A stored step that is being changed; target: a file that it must not touch."""

    document: Document
    graph_def: Any
    target: Path
    added: list[str] = field(default_factory=list)

    def add(self, *nodes: Any, function: str | None = None, shape: list[int] | None = None) -> str:
        """Nodes in the step, or in a function of it, with their locations; the last one's name."""
        body = self.graph_def.node if function is None else self.function(function).node_def
        record = self.document["graph"] if function is None else self.document["functions"][function]
        for node in nodes:
            body.add().CopyFrom(node)
            record["sites"][node.name] = ["forward", LAYER, None, None]
            if function is None:
                self.added.append(node.name)
                record["results"][node.name] = [[dtype, shape] for _, dtype in outputs_of(node)]
        if function is None:  # before all that may read it
            record["sites"] = {name: record["sites"][name] for name in dict.fromkeys([*self.added, *record["sites"]])}
        return str(nodes[-1].name)

    def function(self, name: str) -> Any:
        return next(each for each in self.graph_def.library.function if each.signature.name == name)

    def branch(self) -> str:
        """The name of the first branch of an If in the step."""
        return next(str(n.attr["then_branch"].func.name) for n in self.graph_def.node if n.op in IF_OPS)


def text(name: str, value: str) -> Any:
    return constant(name, tf.make_tensor_proto(value))


def constant(name: str, tensor: Any) -> Any:
    node = make_node(name, "Const", [], dtype=tf.as_dtype(tensor.dtype))
    node.attr["value"].tensor.CopyFrom(tensor)
    return node


def writing(step: Step) -> list[Any]:
    return [text("name", str(step.target)), text("content", "x"), make_node("put_in", "WriteFile", ["name", "content"])]


# -- the files -------------------------------------------------------------------------------------

Change = Callable[[Step], None]


@dataclass(frozen=True)
class Hostile:
    """A change, and what the line says that refuses it; None where the step computes, though not as it should."""

    name: str
    change: Change
    says: str | None


CORPUS: list[Hostile] = []


def hostile(says: str | None) -> Callable[[Change], Change]:
    def add(change: Change) -> Change:
        CORPUS.append(Hostile(change.__name__, change, says))
        return change

    return add


@hostile(f"WriteFile (reads or writes files, or lists them) in {LAYER}")
def writes_a_file(step: Step) -> None:
    step.add(*writing(step))


@hostile("ReadFile (reads or writes files, or lists them)")
def reads_a_file_while_it_is_loaded(step: Step) -> None:
    """TensorFlow wants to know how long a Reshape's shape is, and reads the file to find out."""
    made = make_node("shape", "DecodeRaw", ["put_in"], out_type=tf.int32)
    step.add(text("name", str(step.target)), make_node("put_in", "ReadFile", ["name"]), made)


@hostile("SaveV2 (reads or writes checkpoints)")
def saves_a_checkpoint(step: Step) -> None:
    names = [text(name, str(step.target)) for name in ("prefix", "names", "slices")]
    value = constant("value", tf.make_tensor_proto([1.0]))
    step.add(*names, value, make_node("put_in", "SaveV2", ["prefix", "names", "slices", "value"], dtypes=[tf.float32]))


@hostile("PrintV2 (prints, on the screen or into a file)")
def prints_into_a_file(step: Step) -> None:
    node = make_node("put_in", "PrintV2", ["name"])
    node.attr["output_stream"].s = f"file://{step.target}".encode()
    step.add(text("name", "x"), node)


def python_function(op: str) -> Any:
    node = make_node("put_in", op, [], Tin=[], Tout=[])
    node.attr["token"].s = b"pyfunc_0"
    return node


@hostile("PyFunc (calls a Python function of the process that runs it)")
def calls_python(step: Step) -> None:
    step.add(python_function("PyFunc"))


@hostile("PyFuncStateless (calls a Python function of the process that runs it)")
def calls_python_without_state(step: Step) -> None:
    step.add(python_function("PyFuncStateless"))


@hostile("EagerPyFunc (calls a Python function of the process that runs it)")
def calls_python_eagerly(step: Step) -> None:
    step.add(python_function("EagerPyFunc"))


@hostile("Abort (ends the process, or keeps it asleep)")
def aborts(step: Step) -> None:
    read_by_the_loss(step, step.add(make_node("put_in", "Abort", [])))


@hostile("Abort (ends the process, or keeps it asleep)")
def ends_well(step: Step) -> None:
    node = make_node("put_in", "Abort", [])
    node.attr["exit_without_error"].b = True
    read_by_the_loss(step, step.add(node))


@hostile("SleepOp (ends the process, or keeps it asleep)")
def sleeps(step: Step) -> None:
    step.add(constant("long", tf.make_tensor_proto(1 << 30)), make_node("put_in", "SleepOp", ["long"]))


@hostile("DataServiceDatasetV2 (reads data from files, data bases or other machines")
def asks_another_machine(step: Step) -> None:
    inputs = ["id", "mode", "address", "protocol", "job", "consumer", "consumers", "requests", "counter"]
    step.add(make_node("put_in", "DataServiceDatasetV2", inputs))


@hostile("VarHandleOp (finds or makes something by its name")
def takes_another_variable(step: Step) -> None:
    node = make_node("put_in", "VarHandleOp", [], dtype=tf.float32)
    node.attr["shared_name"].s = b"another"
    step.add(node)


@hostile("XlaCustomCallV2 (runs a program")
def calls_another_library(step: Step) -> None:
    step.add(make_node("put_in", "XlaCustomCallV2", [], operand_dtypes=[], result_dtypes=[]))


@hostile("Assert (prints, on the screen or into a file)")
def asserts(step: Step) -> None:
    truth = constant("truth", tf.make_tensor_proto(False))
    step.add(truth, make_node("put_in", "Assert", ["truth", "truth"], T=[tf.bool]))


@hostile(f"WriteFile (reads or writes files, or lists them) in {LAYER}")
def writes_in_a_branch(step: Step) -> None:
    step.add(*writing(step), function=step.branch())


@hostile(f"WriteFile (reads or writes files, or lists them) in {LAYER}")
def writes_in_a_function_of_a_branch(step: Step) -> None:
    step.graph_def.library.function.add().signature.name = "deep"
    step.document["functions"]["deep"] = {"inputs": [], "outputs": [], "sites": {}}
    step.add(*writing(step), function="deep")
    node = make_node("calls", "StatefulPartitionedCall", [], Tin=[], Tout=[])
    node.attr["f"].func.name = "deep"
    step.add(node, function=step.branch())


@hostile("WriteFile (reads or writes files, or lists them) in unused")
def writes_in_a_function_that_is_named_nowhere(step: Step) -> None:
    step.graph_def.library.function.add().signature.name = "unused"
    step.function("unused").node_def.extend(writing(step))


@hostile("Identity on another machine (/job:worker/replica:0/task:1/device:CPU:0)")
def runs_on_another_machine(step: Step) -> None:
    node = make_node("put_in", "Identity", ["one"], T=tf.float32)
    node.device = "/job:worker/replica:0/task:1/device:CPU:0"
    step.add(constant("one", tf.make_tensor_proto(1.0)), node)


@hostile("hidden in the step has no recorded location")
def computes_where_nobody_looks(step: Step) -> None:
    step.graph_def.node.add().CopyFrom(make_node("hidden", "NoOp", []))


def loop(step: Step, name: str, inputs: Sequence[str] = ()) -> Any:
    """A While whose condition is always true, over a counter that wraps round."""

    @tf.function(autograph=False)
    def endless(x: Any) -> Any:
        return tf.while_loop(lambda i: i > -1.0, lambda i: i + 0.0, [x])[0]

    graph_def = endless.get_concrete_function(tf.TensorSpec([], tf.float32)).graph.as_graph_def()
    (node,) = (node for node in graph_def.node if node.op in ("While", "StatelessWhile"))
    for function in graph_def.library.function:
        step.graph_def.library.function.add().CopyFrom(function)
        arguments = [argument.name for argument in function.signature.input_arg]
        names = [*arguments, *(each.name for each in function.node_def)]
        sites = {each: ["forward", LAYER, None, None] for each in names}
        step.document["functions"][function.signature.name] = {"inputs": arguments, "outputs": [], "sites": sites}
    node.name = name
    del node.input[:]
    node.input.extend(inputs)
    return node


def read_by_the_loss(step: Step, source: str) -> None:
    """Let the loss wait for a node."""
    loss = step.document["loss"].rpartition(":")[0]
    next(node for node in step.graph_def.node if node.name == loss).input.append(f"^{source}")


@hostile(None)
def loops_without_end(step: Step) -> None:
    step.add(constant("one", tf.make_tensor_proto(1.0)))
    probe = loop(step, "endless", [])
    count = len([dtype for _, dtype in outputs_of(probe)])
    step.add(*(constant(f"given_{index}", given_to(dtype)) for index, (_, dtype) in enumerate(outputs_of(probe))))
    probe.input.extend(f"given_{index}" for index in range(count))
    read_by_the_loss(step, step.add(probe))


def given_to(dtype: int) -> Any:
    """A value for one of a While's own: its counter, its limit, and what it goes round with."""
    return (
        tf.make_tensor_proto(1, tf.as_dtype(dtype)) if dtype != tf.int32.as_datatype_enum else tf.make_tensor_proto(-1)
    )


@hostile(None)
def takes_all_memory(step: Step) -> None:
    draw_by_the_loss(step, [1 << 15, 1 << 15])  # 4 GiB


@hostile(None)
def takes_more_memory_than_there_is(step: Step) -> None:
    draw_by_the_loss(step, [1 << 23, 1 << 23])


def draw_by_the_loss(step: Step, shape: list[int]) -> None:
    size = constant("size", tf.make_tensor_proto(shape))
    drawn = make_node("drawn", "RandomUniform", ["size"], T=tf.int32, dtype=tf.float32)
    read_by_the_loss(step, step.add(size, drawn, shape=shape))


# -- writing them ----------------------------------------------------------------------------------


def written(hostile: Hostile, folder: Path) -> Path:
    """A trace with the change in its training step, and its target beside it, if it is to be read."""
    path = folder / f"{hostile.name}.h5"
    shutil.copy(sound(), path)
    target = folder / TARGET
    if hostile.change is reads_a_file_while_it_is_loaded:
        target.write_text(SECRET)
    with h5py.File(path, "r+") as file:
        put_program(file, changed(program_in(file), hostile.change, target))
    return path


def sound() -> Path:
    """A step with a branch, at one place, of one program."""
    quick = (*traced.FREE, *traced.EVERY_STATE, *traced.QUICK)
    return traced.trace(
        "--model",
        "tests/hostile/model.py:branching",
        "--batch-size",
        "4",
        "--steps",
        "2",
        "--candidate",
        "CPU:0",
        *quick,
    )


def program_in(file: h5py.File) -> bytes:
    return bytes(file["programs/bytes"][: file["programs/stop"][0]])


def put_program(file: h5py.File, content: bytes) -> None:
    file["programs/bytes"].resize(len(content), axis=0)
    file["programs/bytes"][:] = np.frombuffer(content, np.uint8)
    file["programs/stop"][0] = len(content)
    file["programs/checksum"][0] = bytes_checksum(content)


def changed(blob: bytes, change: Change, target: Path) -> bytes:
    with zipfile.ZipFile(io.BytesIO(blob)) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    step = Step(json.loads(parts["program.json"]), GraphDef.FromString(parts["graph.pb"]), target)
    change(step)
    parts |= {"program.json": json.dumps(step.document).encode(), "graph.pb": step.graph_def.SerializeToString()}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return archive.getvalue()


if __name__ == "__main__":
    for each in CORPUS:
        print(written(each, Path(sys.argv[1])))
