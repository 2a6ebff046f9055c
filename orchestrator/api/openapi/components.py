"""The models of requests and answers as JSON Schema: each once, under a name that reads well in any language."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

Json = dict[str, Any]
Mode = Literal["validation", "serialization"]

AT = "#/components/schemas/"
_PAGE = re.compile(r"Page_(\w+)_")


class _Plain(GenerateJsonSchema):
    """Fields without titles: they only repeat the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never."""
        return False


def _plain(said: Json) -> Json:
    """Return a component without its title, its docstring in one line."""
    said.pop("title", None)
    if "description" in said:
        said["description"] = " ".join(said["description"].split())
    return said


class Schemas:
    """`components/schemas` of the document, and references to them."""

    def __init__(
        self,
        *,
        queries: Iterable[type[BaseModel]],
        read: Iterable[type[BaseModel]],
        written: Iterable[type[BaseModel]],
    ) -> None:
        asked = _ordered(queries)
        wanted: list[tuple[type[BaseModel], Mode]] = [
            (one, "validation") for one in (*asked, *_ordered(read))
        ]
        wanted += [(one, "serialization") for one in _ordered(written)]
        found, defined = models_json_schema(
            wanted, ref_template=AT + "{model}", schema_generator=_Plain
        )
        self._refs = {key: _renamed(said)["$ref"] for key, said in found.items()}
        self.components: Json = {
            _tidy(name): _plain(_renamed(said)) for name, said in sorted(defined["$defs"].items())
        }
        self._queries = {
            model: self.components.pop(self.read(model)["$ref"].removeprefix(AT)) for model in asked
        }

    def read(self, model: type[BaseModel]) -> Json:
        """Return a reference to what a request is validated as."""
        return {"$ref": self._refs[model, "validation"]}

    def written(self, model: type[BaseModel]) -> Json:
        """Return a reference to what is answered."""
        return {"$ref": self._refs[model, "serialization"]}

    def query(self, model: type[BaseModel]) -> dict[str, Json]:
        """Return the schema of each parameter of a query. One that is left out is null to us alone."""
        return {name: _given(schema) for name, schema in self._queries[model]["properties"].items()}


def _given(schema: Json) -> Json:
    """Return a schema without null."""
    if "anyOf" not in schema:
        return dict(schema)
    kept = [one for one in schema["anyOf"] if one != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return rest | (kept[0] if len(kept) == 1 else {"anyOf": kept})


def _ordered(models: Iterable[type[BaseModel]]) -> list[type[BaseModel]]:
    return sorted(set(models), key=lambda one: (one.__name__, one.__module__))


def _renamed(said: Any) -> Any:
    """Return a schema whose references are to tidy names."""
    if isinstance(said, list):
        return [_renamed(one) for one in said]
    if not isinstance(said, dict):
        return said
    tidy = {key: _renamed(one) for key, one in said.items()}
    if isinstance(ref := said.get("$ref"), str):
        tidy["$ref"] = AT + _tidy(ref.removeprefix(AT))
    return tidy


def _tidy(name: str) -> str:
    """Return `JobPage` for `Page[Job]`; what is sent and what is answered may be called the same by us."""
    name = _PAGE.sub(r"\1Page", name)
    return (
        name.removesuffix("-Output")
        if name.endswith("-Output")
        else name.replace("-Input", "Request")
    )
