"""Cards that tests look at, made by hand."""

from __future__ import annotations

from probes.frame.device_report import FAIL, NOTE, PASS, UNSUPPORTED, DeviceReport, Measurement

ENVIRONMENT = {"place": "CPU:0/eager", "tensorflow": "2.21.0", "keras": "3.15.1", "chip": "A chip", "onednn": True}
MEASUREMENTS = (
    Measurement("fingerprint", "MatMul", "float32", "arithmetic", NOTE, "float32 inputs", {"input": "float32"}),
    Measurement("fingerprint", "MatMul", "float32", "order of 8 terms", NOTE, "((1+2)+3)", {"order": "((1+2)+3)"}),
    Measurement(
        "fingerprint",
        "Conv2D",
        "float32",
        "arithmetic",
        NOTE,
        "float32 inputs; in 2 shapes",
        {"input": "float32", "shapes": 2},
    ),
    Measurement("exact", "MatMul", "float32", "sizes", PASS, "exact in 9 cases", {"cases": 9, "elements": 900}),
    Measurement(
        "exact",
        "TopKV2",
        "float32",
        "sizes",
        FAIL,
        "1 of 3 cases: [0] is wrong",
        {"cases": 3, "wrong_cases": 1},
        "print('a program')\n",
    ),
    Measurement("accuracy", "Exp", "float32", "", PASS, "at most 1.28 ULP", {"max_ulp": 1.28, "held_ulp": 1.28}),
    Measurement("accuracy", "Relu", "float32", "", PASS, "at most 0 ULP", {"max_ulp": 0.0, "held_ulp": 0.0}),
    Measurement("accuracy", "Erfinv", "float16", "", UNSUPPORTED, "no kernel of Erfinv for float16"),
    Measurement("random", "uniform", "float32", "stream", NOTE, "another stream", {"same_stream": False}),
)


def card(
    *measurements: Measurement, place: str = "CPU:0/eager", quick: bool = False, **environment: object
) -> DeviceReport:
    return DeviceReport(place, {**ENVIRONMENT, "place": place, **environment}, quick, measurements or MEASUREMENTS)
