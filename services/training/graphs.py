"""Puts scaler, a family's graph and calibration together into the one graph that is served."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from services.training.core.examples import CLIP, ChosenInputs
from services.training.core.outlook import LEVELS, SCALE_INPUT
from services.training.families.family import GRAPH_INPUT, GRAPH_OUTLOOK, GRAPH_OUTPUT

OPSET = 20
_ML_OPSET = 3
_IR_VERSION = 10


@dataclass
class GraphPart:
    """Nodes and constants in the making."""

    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def constant(self, name: str, values: npt.ArrayLike, kind: type[np.generic] = np.float32) -> str:
        """Add a constant and return its name."""
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype=kind), name))
        return name

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        """Add a node with one output and return that output's name."""
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output


def flatten_first(model: onnx.ModelProto, window: int, inputs: int) -> onnx.ModelProto:
    """Return a converter's graph over flat windows as one over windows, with only the output that answers."""
    part = GraphPart()
    graph = model.graph
    part.constant("flat_shape", [-1, window * inputs], np.int64)
    part.node("Reshape", [GRAPH_INPUT, "flat_shape"], graph.input[0].name)
    answer = graph.output[-1].name
    renamed = helper.make_node("Identity", [answer], [GRAPH_OUTPUT])
    nodes = _needed([*part.nodes, *graph.node, renamed], GRAPH_OUTPUT)
    return _close(
        nodes,
        [*part.constants, *graph.initializer],
        (window, inputs),
        [(GRAPH_OUTPUT, ["batch", "answers"])],
        GRAPH_INPUT,
    )


def serve(
    family: onnx.ModelProto,
    scaling: ChosenInputs,
    window: int,
    tail: GraphPart,
    day_scales_bps: npt.NDArray[np.float64] | None = None,
) -> onnx.ModelProto:
    """Return the graph that inference runs: raw vectors in, calibrated probabilities and expected return out.

    With `day_scales_bps`, which the last bar's volatility is multiplied by, the family's outlook comes out too.
    """
    front = GraphPart()
    front.constant("means", scaling.means)
    front.constant("scales", scaling.scales)
    front.constant("lowest", -CLIP)
    front.constant("highest", CLIP)
    front.constant("unknown", 0.0)
    front.node("Sub", ["vectors", "means"], "centred")
    front.node("Div", ["centred", "scales"], "divided")
    front.node("Clip", ["divided", "lowest", "highest"], "clipped")
    front.node("IsNaN", ["vectors"], "is_unknown")
    front.node("Where", ["is_unknown", "unknown", "clipped"], GRAPH_INPUT)
    outputs: list[tuple[str, Sequence[int | str]]] = [
        ("probabilities", ["batch", 3]),
        ("expected_return_bps", ["batch"]),
    ]
    if day_scales_bps is not None:
        _extend_outlook(tail, scaling.names.index(SCALE_INPUT), window, day_scales_bps)
        outputs.append(("outlook", ["batch", len(day_scales_bps), 3]))
    body = _prefixed(family.graph, "family_", {GRAPH_OUTLOOK: GRAPH_OUTLOOK})
    return _close(
        [*front.nodes, *body.node, *tail.nodes],
        [*front.constants, *body.initializer, *tail.constants],
        (window, len(scaling.names)),
        outputs,
        "vectors",
    )


def _extend_outlook(tail: GraphPart, place: int, window: int, day_scales_bps: npt.NDArray[np.float64]) -> None:
    """Scale means and deviations by the last bar's volatility, from `GRAPH_OUTLOOK` to ``outlook``."""
    count = len(LEVELS)
    tail.constant("last_bar", [window - 1], np.int64)
    tail.constant("volatility_place", [place], np.int64)
    tail.constant("day_scales", day_scales_bps[np.newaxis, :, np.newaxis])
    for name, values in (("sized_from", [count]), ("skew_from", [count + 2]), ("skew_to", [count + 3]), ("day", [2])):
        tail.constant(name, values, np.int64)
    tail.node("Gather", ["vectors", "last_bar"], "last_vector", axis=1)
    tail.node("Gather", ["last_vector", "volatility_place"], "volatility", axis=2)
    tail.node("Mul", ["volatility", "day_scales"], "sizes")
    tail.node("Slice", [GRAPH_OUTLOOK, "sized_from", "skew_from", "day"], "sized")
    tail.node("Slice", [GRAPH_OUTLOOK, "skew_from", "skew_to", "day"], "skews")
    tail.node("Mul", ["sized", "sizes"], "sized_bps")
    tail.node("Concat", ["sized_bps", "skews"], "outlook", axis=2)


def graph_bytes(model: onnx.ModelProto) -> bytes:
    """Return a graph as bytes, the same for the same weights: no paths, no times, no traces of the build."""
    for number, node in enumerate(model.graph.node):
        node.doc_string = ""
        node.name = str(number)
        del node.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def join_graphs(models: Sequence[onnx.ModelProto], names: Sequence[str], top: GraphPart) -> onnx.ModelProto:
    """Return families' graphs side by side over the same windows, their answers under `names`, and `top` over those."""
    bodies = [
        _prefixed(model.graph, f"{name}_", {GRAPH_OUTPUT: name}) for model, name in zip(models, names, strict=True)
    ]
    shape = [dimension.dim_value for dimension in models[0].graph.input[0].type.tensor_type.shape.dim]
    return _close(
        [*(node for body in bodies for node in body.node), *top.nodes],
        [*(one for body in bodies for one in body.initializer), *top.constants],
        (shape[1], shape[2]),
        [(GRAPH_OUTPUT, ["batch", "answers"])],
        GRAPH_INPUT,
    )


def _needed(nodes: Sequence[NodeProto], output: str) -> list[NodeProto]:
    wanted = {output}
    kept: list[NodeProto] = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1]


def _prefixed(graph: onnx.GraphProto, prefix: str, kept: Mapping[str, str] | None = None) -> onnx.GraphProto:
    """Return a copy whose names cannot meet ours; the input keeps its own, and the output unless `kept` renames it."""
    renamed = {"": "", GRAPH_INPUT: GRAPH_INPUT, GRAPH_OUTPUT: GRAPH_OUTPUT, **(kept or {})}
    made = onnx.GraphProto()
    made.CopyFrom(graph)

    def rename(name: str) -> str:
        return renamed[name] if name in renamed else prefix + re.sub(r"\W", "_", name)

    for node in made.node:
        node.input[:] = [rename(one) for one in node.input]
        node.output[:] = [rename(one) for one in node.output]
    for one in made.initializer:
        one.name = rename(one.name)
        one.doc_string = ""
    return made


def _close(
    nodes: Sequence[NodeProto],
    constants: Sequence[TensorProto],
    shape: tuple[int, int],
    outputs: Sequence[tuple[str, Sequence[int | str]]],
    input_name: str,
) -> onnx.ModelProto:
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        list(nodes),
        "model",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(given)) for name, given in outputs],
        [one for one in constants if one.name in used],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="perpflow")
