"""The switches of the stack, each with how it is set, how a person writes it, and where it can be tried.

Importing this loads no TensorFlow: some switches are read from the environment when it is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diag.machine.places import Place


@dataclass(frozen=True)
class Switch:
    """environment: variables that are read when TensorFlow is loaded.  execution: of the candidate.

    grappler: options of `tf.config.optimizer.set_experimental_options`.  code: what a person pastes.
    why: what it gives up.  rank: which cure is named first; small is local or cheap.
    """

    name: str
    code: str
    why: str
    rank: int
    environment: Mapping[str, str] = field(default_factory=dict)
    execution: str | None = None
    grappler: Mapping[str, bool] = field(default_factory=dict)
    tf32: bool | None = None
    deterministic: bool = False

    def reason_not_to_try(self, place: Place, environment: Mapping[str, Any]) -> str:
        """Why it says nothing here; empty where it can be tried.  `environment` is the recorded lane's."""
        if self.execution == place.execution:
            return "it is so already"
        if self.tf32 is not None and not _is_on_gpu(place):
            return "TF32 is of NVIDIA's GPUs"
        if self.tf32 is False and environment.get("tf32") is False:
            return "it is so already"
        if self.deterministic and environment.get("op_determinism"):
            return "it is so already"
        if self.name == REMAPPER and not _is_metal(place, environment):
            return "tensorflow-metal alone reads it"
        if self.name == ONEDNN and (environment.get("onednn") is False or _is_on_gpu(place)):
            return "oneDNN computes on the CPU" if _is_on_gpu(place) else "it is so already"
        if self.grappler and not place.is_compiled:
            return "nothing is compiled in eager execution"
        return ""


ONEDNN, REMAPPER, TF32, DETERMINISTIC = "onednn=off", "TURN_OFF_REMAPPER=1", "tf32=off", "deterministic=on"
GRAPPLER = "grappler=off"
# The passes of grappler that a person can turn off by `tf.config.optimizer.set_experimental_options`, most likely to
# fuse first.  Not among them: what is off unless asked for (debug_stripper, auto_mixed_precision*,
# pin_to_host_optimization), and what is no pass (min_graph_nodes).
PASSES = (
    "remapping", "use_plugin_optimizers", "layout_optimizer", "constant_folding", "arithmetic_optimization",
    "dependency_optimization", "loop_optimization", "function_optimization", "shape_optimization",
    "scoped_allocator_optimization", "implementation_selector",
)  # fmt: skip
_SET = "tf.config.optimizer.set_experimental_options"
_CODE_OF_EXECUTION = {
    "eager": "model.compile(..., run_eagerly=True)",
    "graph": "model.compile(..., jit_compile=False)",
    "xla": "model.compile(..., jit_compile=True)",
}


def _is_on_gpu(place: Place) -> bool:
    return place.device.startswith("GPU") and not place.is_simulated


def _is_metal(place: Place, environment: Mapping[str, Any]) -> bool:
    return _is_on_gpu(place) and "tensorflow-metal" in environment


def _registry() -> dict[str, Switch]:
    passes = [
        Switch(f"{name}=off", f'{_SET}({{"{name}": False}})', "one pass of the graph optimizer less", rank,
               grappler={name: False})
        for rank, name in enumerate(PASSES)
    ]  # fmt: skip
    executions = [
        Switch(f"execution={name}", _CODE_OF_EXECUTION[name], why, rank, execution=name)
        for name, rank, why in (
            ("eager", 90, "every op by itself: nothing is fused, and a step takes longer"),
            ("graph", 40, "the step is not compiled by XLA"),
            ("xla", 50, "the step is compiled by XLA"),
        )
    ]
    others = [
        Switch(GRAPPLER, f'{_SET}({{"disable_meta_optimizer": True}})', "no graph optimizer at all", 20,
               grappler={"disable_meta_optimizer": True}),
        Switch(TF32, "tf.config.experimental.enable_tensor_float_32_execution(False)",
               "products in full float32, slower on GPUs that have TF32", 10, tf32=False),
        Switch(DETERMINISTIC, "keras.utils.set_random_seed(0); tf.config.experimental.enable_op_determinism()",
               "kernels with one order of summation, slower", 60, deterministic=True),
        Switch(ONEDNN, 'os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # before TensorFlow is imported',
               "TensorFlow's own CPU kernels", 30, environment={"TF_ENABLE_ONEDNN_OPTS": "0"}),
        Switch(REMAPPER, 'os.environ["TURN_OFF_REMAPPER"] = "1"  # before TensorFlow is imported',
               "tensorflow-metal fuses no ops", 11, environment={"TURN_OFF_REMAPPER": "1"}),
    ]  # fmt: skip
    order = [executions[0], others[0], *passes, executions[1], executions[2], *others[1:]]
    return {switch.name: switch for switch in order}


SWITCHES = _registry()
REWRITING = tuple(f"{name}=off" for name in PASSES)
OP_ALONE = "the op is wrong by itself, executed eagerly"
# What a person might try and a recorded step cannot show.
NOT_IN_A_TRACE = {"another policy of the whole model": "the recorded step has one dtype: record a run with --policy"}


def switches_for(
    place: Place, environment: Mapping[str, Any], is_op: bool = False
) -> tuple[list[Switch], dict[str, str]]:
    """The switches to try at a place, in order, and name -> reason of those that are not.

    is_op: an op is wrong by itself, executed eagerly; then what chooses kernels comes first, and what takes a graph
    rewriter away is no cure.
    """
    reasons = {name: switch.reason_not_to_try(place, environment) for name, switch in SWITCHES.items()}
    if is_op:
        graph = {name: OP_ALONE for name, switch in SWITCHES.items() if switch.grappler or switch.execution}
        reasons = {name: why or graph.get(name, "") for name, why in reasons.items()}
    tried = [switch for name, switch in SWITCHES.items() if not reasons[name]]
    return tried, {**{name: why for name, why in reasons.items() if why}, **NOT_IN_A_TRACE}


# Environment variables that TensorFlow reads once, when it is loaded, and their values that a recorded step is run
# again with.  A trace is a stranger's: no other name, and no text of its own, comes into force from it.
_TRUTHS = ("0", "1", "true", "false", "True", "False")
READ_AT_START: Mapping[str, tuple[str, ...]] = {
    "TF_ENABLE_ONEDNN_OPTS": _TRUTHS,
    "NVIDIA_TF32_OVERRIDE": ("0", "1"),
    "TF_DETERMINISTIC_OPS": _TRUTHS,
    "TURN_OFF_REMAPPER": ("0", "1"),
}
XLA_FLAGS = "XLA_FLAGS"
XLA_SWITCHES = (
    "xla_allow_excess_precision", "xla_cpu_enable_fast_math", "xla_cpu_enable_fast_min_max",
    "xla_cpu_fast_math_honor_division", "xla_cpu_fast_math_honor_functions", "xla_cpu_fast_math_honor_infs",
    "xla_cpu_fast_math_honor_nans", "xla_gpu_deterministic_ops", "xla_gpu_enable_cublaslt",
    "xla_gpu_enable_triton_gemm", "xla_gpu_exclude_nondeterministic_ops",
)  # fmt: skip
RESTORED = (*READ_AT_START, XLA_FLAGS)
_XLA_SWITCH = re.compile(rf"--({'|'.join(XLA_SWITCHES)})(=(true|false|0|1))?")


def in_force_of(environment: Mapping[str, Any]) -> dict[str, str]:
    """What of a recorded environment is put in force: known names and values, and of XLA_FLAGS known switches."""
    given = {name: environment.get(name) for name in READ_AT_START}
    found = {name: value for name, value in given.items() if isinstance(value, str) and value in READ_AT_START[name]}
    flags = environment.get(XLA_FLAGS)
    if isinstance(flags, str) and flags.strip() and all(map(_XLA_SWITCH.fullmatch, flags.split())):
        found[XLA_FLAGS] = " ".join(flags.split())
    return found


def merged_environment(names: Sequence[str]) -> dict[str, str]:
    return {key: value for name in names for key, value in SWITCHES[name].environment.items()}


def process_of(names: Sequence[str]) -> tuple[str, ...]:
    """The switches that a process starts with: trials that agree on them may share one.

    TF32 is among them although it can be set at any time: TensorFlow keeps the kernel that it once chose for a
    convolution of these shapes, and cuDNN's backward ones go on rounding to TF32 (seen on an H100).
    """
    return tuple(sorted(name for name in names if name in SWITCHES and _is_of_a_process(SWITCHES[name])))


def _is_of_a_process(switch: Switch) -> bool:
    return bool(switch.environment) or switch.tf32 is not None


def is_final(names: Sequence[str]) -> bool:
    """Whether a process can run nothing else after such a trial: kernels chosen for op determinism outlive it."""
    return any(name in SWITCHES and SWITCHES[name].deterministic for name in names)
