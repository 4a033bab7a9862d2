"""Grappler, which rewrites every graph that TensorFlow compiles: its switches, and whether rewriters run.

A simulated rewriter stands for a remapper, the pass that fuses ops, which a device's plug-in brings with it
(TensorFlow's `CustomGraphOptimizerRegistry`, RFC 20201027-modular-tensorflow-graph-c-api).  So it runs where
such a pass would: inside grappler's meta optimizer, while neither remapping nor the optimizers of plug-ins
are switched off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

META = "disable_meta_optimizer"
# What a person can turn off by `tf.config.optimizer.set_experimental_options`, in the order of that function's
# own list.  Not among them: what is off unless asked for (debug_stripper, auto_mixed_precision*,
# pin_to_host_optimization), and what is no pass (min_graph_nodes).
OPTIONS = (
    "layout_optimizer", "constant_folding", "shape_optimization", "remapping", "arithmetic_optimization",
    "dependency_optimization", "loop_optimization", "function_optimization", "scoped_allocator_optimization",
    "implementation_selector", "use_plugin_optimizers",
)  # fmt: skip
REWRITERS = ("remapping", "use_plugin_optimizers")  # either off: no rewriter of a plug-in fuses


def set_options(wanted: Mapping[str, bool]) -> None:
    """The options named, and every other one as it is without being asked for."""
    options: dict[str, Any] = {**dict.fromkeys(OPTIONS, None), META: False, **wanted}
    tf.config.optimizer.set_experimental_options(options)


def runs_rewriters() -> bool:
    """Whether a rewriter of a plug-in would run on what is compiled now."""
    options = tf.config.optimizer.get_experimental_options()
    return not options.get(META, False) and all(options.get(name, True) for name in REWRITERS)
