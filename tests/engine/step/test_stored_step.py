"""A stored step that was changed is refused before it is loaded: every name in it is found, every number is one."""

from __future__ import annotations

import functools
import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import keras
import pytest
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef

from diag.engine.graphs.editing import make_node
from diag.engine.step.serialization import dump, load
from diag.engine.step.stored_step import Damaged, NotAllowed
from diag.engine.step.tracing import trace
from diag.errors import UserError
from tests import zoo

Document = dict[str, Any]


@functools.cache
def blob(make: Callable[[], keras.Model]) -> bytes:
    return dump(trace(zoo.made(make), zoo.batch_for(make)))


def parts_of(make: Callable[[], keras.Model]) -> tuple[Document, Any]:
    with zipfile.ZipFile(io.BytesIO(blob(make))) as file:
        return json.loads(file.read("program.json")), GraphDef.FromString(file.read("graph.pb"))


def packed(document: Document, graph_def: Any, constants: tuple[bytes, ...] = ()) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("program.json", json.dumps(document))
        file.writestr("graph.pb", graph_def.SerializeToString())
        for index, constant in enumerate(constants):
            file.writestr(f"constant/{index}", constant)
    return archive.getvalue()


def changed(change: Callable[[Document, Any], None], make: Callable[[], keras.Model] = zoo.mlp) -> bytes:
    document, graph_def = parts_of(make)
    change(document, graph_def)
    return packed(document, graph_def)


def located(document: Document, node: str, layer: str = "dense") -> None:
    document["graph"]["sites"][node] = ["forward", layer, None, None]
    document["graph"]["results"][node] = []


def test_what_was_not_changed_is_loaded() -> None:
    for make in (zoo.mlp, zoo.branching):
        program = load(changed(lambda document, graph_def: None, make))
        assert program.graph_def == parts_of(make)[1]


def test_an_op_that_does_more_is_named_with_its_layer_and_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def writes(document: Document, graph_def: Any) -> None:
        graph_def.node.add().CopyFrom(make_node("w", "WriteFile", []))
        located(document, "w", "dense_1")

    monkeypatch.setattr(
        tf.graph_util, "import_graph_def", lambda *args, **kwargs: pytest.fail("it was given to TensorFlow")
    )
    with pytest.raises(NotAllowed) as refused:
        load(changed(writes, zoo.branching))
    assert str(refused.value) == "WriteFile (reads or writes files, or lists them) in dense_1"


def test_a_trusted_step_may_have_any_op() -> None:
    def prints(document: Document, graph_def: Any) -> None:
        graph_def.node.add().CopyFrom(make_node("p", "PrintV2", [constant_of(graph_def)]))
        located(document, "p")

    def constant_of(graph_def: Any) -> str:
        return next(node.name for node in graph_def.node if node.op == "Const")

    assert "p" in load(changed(prints), is_trusted=True).graph.by_name


def no_location(document: Document, graph_def: Any) -> None:
    graph_def.node.add().CopyFrom(make_node("hidden", "NoOp", []))


def no_node(document: Document, graph_def: Any) -> None:
    located(document, "gone")


def no_location_in_a_body(document: Document, graph_def: Any) -> None:
    graph_def.library.function[0].node_def.add().CopyFrom(make_node("hidden", "NoOp", []))


def two_of_one_name(document: Document, graph_def: Any) -> None:
    graph_def.node.add().CopyFrom(graph_def.node[0])


def another_function(document: Document, graph_def: Any) -> None:
    document["functions"]["gone"] = {"inputs": [], "outputs": [], "sites": {}}


def another_dtype(document: Document, graph_def: Any) -> None:
    results = document["graph"]["results"]
    name = next(name for name, found in results.items() if found and found[0][0] == 1)
    results[name][0][0] = 2


def a_cycle(document: Document, graph_def: Any) -> None:
    node = next(node for node in graph_def.node if node.op == "BiasAdd")
    node.input[0] = node.name


def an_output_before_the_first(document: Document, graph_def: Any) -> None:
    node = next(node for node in graph_def.node if node.op == "BiasAdd")
    node.input[0] += ":-1"


def another_loss(document: Document, graph_def: Any) -> None:
    document["loss"] = "loss_that_is_none:0"


def another_capture(document: Document, graph_def: Any) -> None:
    document["captures"][next(iter(document["captures"]))] = len(document["variables"])


def nothing_given(document: Document, graph_def: Any) -> None:
    document["captures"].pop(next(iter(document["captures"])))


def another_phase(document: Document, graph_def: Any) -> None:
    sites = document["graph"]["sites"]
    sites[next(iter(sites))][0] = "later"


def no_list(document: Document, graph_def: Any) -> None:
    document["layers"] = 3


def countless_outputs(document: Document, graph_def: Any) -> None:
    node = make_node("split", "Split", [], T=tf.float32)
    node.attr["num_split"].i = 1 << 40
    graph_def.node.add().CopyFrom(node)
    located(document, "split")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (no_location, "hidden in the step has no recorded location"),
        (no_node, "gone in the step has a location and no node"),
        (no_location_in_a_body, "hidden in function .* has no recorded location"),
        (two_of_one_name, "two nodes of one name"),
        (another_function, "its functions are not those that were recorded"),
        (another_dtype, "computes other dtypes than were recorded"),
        (a_cycle, "which is no output of a node before it"),
        (an_output_before_the_first, "which is no output of a node before it"),
        (another_loss, "it names outputs that no node has"),
        (another_capture, "captures names no variables"),
        (nothing_given, "placeholders that nothing is given to"),
        (another_phase, "locations that are none"),
        (no_list, "layers is no list of names"),
        (countless_outputs, "split has more than 65,536 outputs"),
    ],
)
def test_a_changed_step_is_refused(change: Callable[[Document, Any], None], says: str) -> None:
    with pytest.raises(Damaged, match=says):
        load(changed(change, zoo.branching))


def test_an_op_that_this_tensorflow_does_not_know_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(document: Document, graph_def: Any) -> None:
        graph_def.node.add().CopyFrom(make_node("x", "OfTomorrow", []))
        located(document, "x")

    with pytest.raises(UserError, match=r"the op OfTomorrow, which TensorFlow .* does not know"):
        load(changed(unknown), is_trusted=True)


def test_a_constant_of_handles_is_refused() -> None:
    tensor = tf.make_tensor_proto(1.0)

    def swapped(document: Document, graph_def: Any) -> None:
        name = next(iter(document["captures"]))
        del document["captures"][name]
        document["constants"].append(name)

    document, graph_def = parts_of(zoo.mlp)
    swapped(document, graph_def)
    with pytest.raises(Damaged, match="is of another dtype"):
        load(packed(document, graph_def, (tensor.SerializeToString(),)))


def test_what_inflates_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diag.engine.step.stored_step.MOST_BYTES", 1 << 30)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file, file.open("program.json", "w") as part:
        for _ in range(65):
            part.write(bytes(1 << 24))
    assert len(archive.getvalue()) < 4 << 20
    with pytest.raises(Damaged, match="inflates to more than 1 GiB"):
        load(archive.getvalue())
