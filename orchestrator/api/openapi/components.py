"""`components/schemas`: the models of requests and responses as JSON Schema, each once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from orchestrator.schemas.base import Json

Mode = Literal["validation", "serialization"]

AT = "#/components/schemas/"
_PAGE = re.compile(r"Page_(\w+)_")


class _WithoutTitles(GenerateJsonSchema):
    """The title of a field only repeats its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False."""
        return False


class Components:
    """The schemas of the document, and references to them.

    `queries` and `read` are models of requests, `written` are models of responses.
    """

    def __init__(
        self,
        *,
        queries: Iterable[type[BaseModel]],
        read: Iterable[type[BaseModel]],
        written: Iterable[type[BaseModel]],
    ) -> None:
        queries = _sorted(queries)
        wanted: list[tuple[type[BaseModel], Mode]] = [
            (model, "validation") for model in (*queries, *_sorted(read))
        ]
        wanted += [(model, "serialization") for model in _sorted(written)]
        refs, definitions = models_json_schema(
            wanted, ref_template=AT + "{model}", schema_generator=_WithoutTitles
        )
        self._refs = {key: _renamed(ref)["$ref"] for key, ref in refs.items()}
        self.schemas: Json = {
            _public_name(name): _described(_renamed(schema))
            for name, schema in sorted(definitions["$defs"].items())
        }
        self._queries = {
            model: self.schemas.pop(self.read(model)["$ref"].removeprefix(AT)) for model in queries
        }

    def read(self, model: type[BaseModel]) -> Json:
        """Return a reference to the schema of a request."""
        return {"$ref": self._refs[model, "validation"]}

    def written(self, model: type[BaseModel]) -> Json:
        """Return a reference to the schema of a response."""
        return {"$ref": self._refs[model, "serialization"]}

    def query(self, model: type[BaseModel]) -> dict[str, Json]:
        """Return the schema of each query parameter. Null stands for absent, in Python alone."""
        properties: dict[str, Json] = self._queries[model]["properties"]
        return {name: _without_null(schema) for name, schema in properties.items()}


def _described(schema: Json) -> Json:
    """Return a component without its title, its description on one line."""
    schema.pop("title", None)
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())
    return schema


def _without_null(schema: Json) -> Json:
    if "anyOf" not in schema:
        return dict(schema)
    kept = [option for option in schema["anyOf"] if option != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return rest | (kept[0] if len(kept) == 1 else {"anyOf": kept})


def _sorted(models: Iterable[type[BaseModel]]) -> list[type[BaseModel]]:
    return sorted(set(models), key=lambda model: (model.__name__, model.__module__))


def _renamed(schema: Any) -> Any:
    """Return a schema whose references use public names."""
    if isinstance(schema, list):
        return [_renamed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    renamed = {key: _renamed(value) for key, value in schema.items()}
    if isinstance(ref := schema.get("$ref"), str):
        renamed["$ref"] = AT + _public_name(ref.removeprefix(AT))
    return renamed


def _public_name(name: str) -> str:
    """Return `JobPage` for `Page[Job]`, `ReplayRequest` for the request model of two `Replay`s."""
    name = _PAGE.sub(r"\1Page", name)
    if name.endswith("-Output"):
        return name.removesuffix("-Output")
    return name.replace("-Input", "Request")
