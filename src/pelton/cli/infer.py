"""`pelton infer`: ask a running server for one prediction."""

from __future__ import annotations

import enum
from typing import Annotated, Any

import typer

from pelton.cli.asking import DEFAULT_URL, ApiKey, Timeout, Url, asking
from pelton.cli.infer_answer import (
    for_people,
    for_programs,
    value_for_people,
    value_for_programs,
)
from pelton.cli.infer_inputs import read_inputs, typed_inputs
from pelton.client import Client, ModelDescription


class Format(enum.StrEnum):
    """How the answer is printed."""

    TEXT = "text"
    JSON = "json"


def command(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--input", "-i", metavar="NAME=VALUE", help="An input: JSON, or plain text. Repeatable."
        ),
    ] = None,
    npy: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="An input from a .npy file. Repeatable."),
    ] = None,
    json_file: Annotated[
        str | None,
        typer.Option(
            "--json", metavar="FILE", help="Inputs by name, from JSON; - is standard input."
        ),
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option("--output", "-o", metavar="NAME", help="Only this output. Repeatable."),
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Version; by default the server's pick.")
    ] = None,
    url: Url = DEFAULT_URL,
    timeout: Timeout = "10s",
    api_key: ApiKey = None,
    form: Annotated[
        Format, typer.Option("--format", help="For people or for programs.")
    ] = Format.TEXT,
) -> None:
    """Ask a running server for one prediction.

    Values become the datatypes that the model declares; the array in a .npy file stays as it is.

    Examples:
      pelton infer adder --input 'x=[1, 2.5]' --input 'y=[3, 4]'
      pelton infer digits --npy image=digit.npy --output probabilities
      pelton infer policy -i instruction="the red cube" --npy state=s.npy --npy image=i.npy
      pelton infer digits --json examples/digits/sample.json
    """
    values = read_inputs(given or (), npy or (), json_file)
    with asking("pelton infer", url, timeout, api_key) as client:
        described = client.model_metadata(model, version)
        typer.echo(_answer(client, described, values, tuple(outputs or ()), version, form))


def _answer(
    client: Client,
    described: ModelDescription,
    values: dict[str, Any],
    outputs: tuple[str, ...],
    version: str | None,
    form: Format,
) -> str:
    """Ask in the way that the model understands: tensors, or any value."""
    for_program = form is Format.JSON
    if not described.inputs:
        value = client.predict(values, described.name)
        return value_for_programs(value) if for_program else value_for_people(value)
    arrays = typed_inputs(values, described.inputs)
    datatypes = {spec.name: "BF16" for spec in described.inputs if spec.datatype == "BF16"}
    response = client.infer(
        described.name, arrays, outputs=outputs, version=version, datatypes=datatypes
    )
    return for_programs(response) if for_program else for_people(response)
