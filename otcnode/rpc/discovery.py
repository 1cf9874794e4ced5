"""The OpenRPC document (spec.open-rpc.org, version 1.3), generated from the types of the methods. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from otcnode import __version__
from otcnode.rpc.method import Method

OPENRPC_VERSION = "1.3.2"


def document(methods: Mapping[str, Method]) -> dict[str, Any]:
    """What `rpc.discover` answers. Parameters may be given by name or by position, in the order shown."""
    names = list(methods)
    kinds = [kind for name in names for kind in (methods[name].params, methods[name].result)]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    shapes = {name: _component(schemas[2 * place]) for place, name in enumerate(names)}
    parameters = {name: components[shape] for name, shape in shapes.items()}
    for shape in set(shapes.values()):
        del components[shape]
    return {
        "openrpc": OPENRPC_VERSION,
        "info": {"title": "otcnode", "version": __version__, "description": "JSON-RPC 2.0 over HTTP and WebSocket"},
        "methods": [
            _method(name, methods[name], parameters[name], schemas[2 * place + 1]) for place, name in enumerate(names)
        ],
        "components": {"schemas": components},
    }


def _component(schema: Mapping[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _method(name: str, method: Method, parameters: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    required = parameters.get("required", [])
    return {
        "name": name,
        "summary": method.summary,
        "paramStructure": "either",
        "params": [
            {"name": field, "required": field in required, "schema": schema}
            for field, schema in parameters["properties"].items()
        ],
        "result": {"name": "result", "schema": result},
        "x-access": method.access.value,
        "x-example-params": dict(method.example),
    }
