"""What a training writes stands in the schema of the record, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from tests.support.runs import forecast, labelled, small, straight
from unvanish.record import RunRecord, config, schema


def outside(kind: Any, value: Any, where: str) -> Iterator[str]:
    """Name every field of a value that its model does not have."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, BaseModel):
        known = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
        for name, inner in value.items():
            yield from outside(known[name], inner, f"{where}.{name}") if name in known else [f"{where}.{name}"]
    elif isinstance(value, dict) and get_origin(kind) is dict:
        for name, inner in value.items():
            yield from outside(get_args(kind)[1], inner, f"{where}.{name}")
    elif isinstance(value, list) and get_origin(kind) is list:
        for inner in value:
            yield from outside(get_args(kind)[0], inner, where)


def test_every_field_of_a_record_is_in_the_schema(tmp_path: Path) -> None:
    text = small(tmp_path, clip="step:1", penalty=["omega:0.1"], init=["orthogonal"], connect="residual")
    series = forecast(tmp_path, cell="rnn", length=40, epochs=2)
    made = {"text": text, "series": series, "classes": labelled(tmp_path, epochs=1)}
    records = [RunRecord(straight(one, tmp_path / name)) for name, one in made.items()]
    lines = [line for record in records for line in record.read()]
    assert {line["kind"] for line in lines} == set(schema.LINES)
    found = {where for line in lines for where in outside(schema.LINES[line["kind"]], line, line["kind"])}
    assert not found
    for record in records:
        assert not list(outside(config.Config, record.config, "config"))


def test_a_field_that_is_not_in_the_schema_is_found() -> None:
    line = {"kind": "flow", "step": 1, "profiles": {"l0": {"reach": 3, "reech": 3}}, "norms": {}}
    assert set(outside(schema.Flow, line, "flow")) == {"flow.profiles.l0.reech", "flow.norms"}
    line = {"kind": "forecast", "step": 1, "windows": [{"middle": [1.0], "came_of": []}]}
    assert set(outside(schema.Forecast, line, "forecast")) == {"forecast.windows.came_of"}
