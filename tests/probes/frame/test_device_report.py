"""Cards: kept as JSON and read back the same; what is no card is refused in one line; files whole or not at all."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from diag.errors import UserError
from probes.frame.device_report import (
    FAIL,
    NOTE,
    PASS,
    DeviceReport,
    Measurement,
    check_unique,
    read_report,
    report_of,
    write_atomically,
)
from tests.probes.device_reports import MEASUREMENTS, card


def test_a_card_read_back_is_the_card():
    assert report_of(card().to_json(), "a test") == card()


def test_a_drawing_reads_back_the_same_from_ascii():
    drawn = card(Measurement("fingerprint", "Sum", "float32", "order", NOTE, "drawn", {"drawing": "+\n├─0\n└─1"}))
    text = drawn.to_json(ascii_only=True)
    assert text.isascii() and report_of(text, "a test") == drawn


def test_json_has_counts_and_no_number_that_json_lacks():
    text = card(Measurement("exact", "Sum", "float32", "", FAIL, "off", {"worst": math.inf, "low": math.nan})).to_json()
    document = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert document["counts"] == {"pass": 0, "fail": 1, "note": 0, "unsupported": 0}
    assert document["readings"][0]["figures"] == {"worst": "inf", "low": "nan"}
    assert text.endswith("}\n") and not text.endswith("\n\n")


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "expected a card"),
        ("[1]", "expected a card"),
        ('{"schema": "lockstep-report/1"}', "received 'lockstep-report/1'"),
        ('{"schema": "lockstep-card/2"}', "expected a card of schema lockstep-card/1, received 'lockstep-card/2'"),
        ('{"schema": "lockstep-card/1", "readings": [{"family": "exact"}]}', "expected a card"),
        ('{"schema": "lockstep-card/1", "readings": 3}', "expected a card"),
    ],
)
def test_what_is_no_card_is_refused(tmp_path, text, says):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(UserError, match=says.replace("(", r"\(")):
        read_report(tmp_path / "c.json")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.json: cannot be read"):
        read_report(tmp_path / "none.json")


def test_two_readings_of_one_name_are_a_bug():
    check_unique(MEASUREMENTS)
    with pytest.raises(ValueError, match="one name"):
        check_unique([*MEASUREMENTS, replace(MEASUREMENTS[0], says="other")])


def test_a_file_is_written_whole_or_stays_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "card.json"
    write_atomically(path, "first")
    monkeypatch.setattr("pathlib.Path.replace", lambda self, target: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "second")
    assert [each.name for each in tmp_path.iterdir()] == ["card.json"]
    assert path.read_text() == "first"


def test_a_folder_that_cannot_be_written_is_a_users_error(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        write_atomically(tmp_path / "no" / "card.json", "text")


def test_counts_and_failures():
    made: DeviceReport = card()
    assert (made.count(PASS), [each.op for each in made.failures]) == (3, ["TopKV2"])
    assert MEASUREMENTS[4].name == "TopKV2 float32 sizes"
