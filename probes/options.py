"""Flags that `python -m probes` and `python -m probes fleet` have alike."""

from __future__ import annotations

import argparse
from collections.abc import Collection

from diag.common.command import seed
from diag.machine.places import EXECUTIONS
from probes.frame import plan
from probes.frame.plan import Choice

DTYPES = ("float32", "float16", "bfloat16", "float64", "int32", "int64")


def add_probed_flags(group: argparse._ActionsContainer, families: Collection[str] = tuple(plan.FAMILIES)) -> None:
    group.add_argument("--execution", choices=EXECUTIONS, help="where a place names none (default: eager)")
    group.add_argument("--op", action="append", metavar="GLOB", help="only these ops: MatMul, 'Conv*'; repeatable")
    group.add_argument("--dtype", action="append", choices=DTYPES, help="only this dtype; repeatable")
    group.add_argument("--family", action="append", choices=families, help="only this family of probes; repeatable")
    group.add_argument("--quick", action="store_true", help="fewer samples and shapes")
    group.add_argument("--seed", type=seed, default=0, help="of what is drawn (default: %(default)s)")
    group.add_argument("--tf32", choices=("on", "off"), help="TensorFloat-32 on NVIDIA GPUs (default: on)")


def choice_of(options: argparse.Namespace) -> Choice:
    return Choice(tuple(options.op or ()), tuple(options.dtype or ()), tuple(options.family or ()), options.quick)
