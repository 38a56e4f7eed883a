"""KFP's published v2beta1 API as a check: the models generated from its OpenAPI document."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus

from kfp_server_api import models  # type: ignore[import-untyped]


class Breach(Exception):
    """A document says something that the API does not know."""


def check_model(document: Any, model: str, where: str) -> None:
    """Raises Breach unless the JSON `document` is a `model` of kfp_server_api, such as V2beta1Run.

    As protojson reads it: unknown fields are refused, enums are names or numbers.
    """
    if model.startswith("list["):
        if not isinstance(document, list):
            raise Breach(f"{where}: expected a list, got {document!r}")
        for number, item in enumerate(document):
            check_model(item, model[5:-1], f"{where}[{number}]")
    elif model.startswith("dict("):
        if not isinstance(document, dict):
            raise Breach(f"{where}: expected an object, got {document!r}")
        for key, item in document.items():
            check_model(item, model[5:-1].partition(", ")[2], f"{where}.{key}")
    elif model == "object":
        pass
    elif model in ("str", "int", "bool", "datetime"):
        _check_plain(document, model, where)
    else:
        _check_class(document, getattr(models, model), where)


def _check_plain(value: Any, kind: str, where: str) -> None:
    if kind == "datetime":
        try:
            datetime.fromisoformat(value)
        except (TypeError, ValueError):
            raise Breach(f"{where}: {value!r} is not an RFC 3339 time") from None
    elif not isinstance(value, {"str": str, "int": int, "bool": bool}[kind]):
        raise Breach(f"{where}: {value!r} is not a {kind}")


def _check_class(document: Any, model: Any, where: str) -> None:
    if not model.openapi_types:  # an enum
        names = model.allowable_values
        if document not in names and not (isinstance(document, int) and 0 <= document <= 99):
            raise Breach(f"{where}: {document!r} is none of {', '.join(names)}")
        return
    if not isinstance(document, dict):
        raise Breach(f"{where}: expected an object, got {document!r}")
    fields = {json_name: name for name, json_name in model.attribute_map.items()}
    fields |= {_camel(json_name): name for json_name, name in fields.items()}
    for key, value in document.items():
        if key not in fields:
            raise Breach(f"{where}: unknown field '{key}' of {model.__name__}")
        check_model(value, model.openapi_types[fields[key]], f"{where}.{key}")


def _camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda found: found[1].upper(), name)


OPERATIONS = {1: "EQUALS", 2: "NOT_EQUALS", 8: "IN", 9: "IS_SUBSTRING"}


def matches(filter_text: str, keys: dict[str, str], document: dict[str, Any]) -> bool:
    """Whether a list request's `filter` keeps the document; `keys` maps what it may name to fields.

    Raises Breach for a filter the API refuses.
    """
    try:
        found = json.loads(unquote_plus(filter_text))  # as the server does, once more after HTTP
    except ValueError:
        raise Breach(f"filter {filter_text!r} is not JSON") from None
    check_model(found, "V2beta1Filter", "filter")
    for predicate in found.get("predicates", ()):
        operation = predicate.get("operation")
        operation = OPERATIONS.get(operation, operation)
        if predicate.get("key") not in keys:
            raise Breach(f"filter: no filtering by {predicate.get('key')!r}")
        value = document.get(keys[predicate["key"]], "")
        text = predicate.get("stringValue", predicate.get("string_value"))
        several = predicate.get("stringValues", predicate.get("string_values")) or {}
        if operation == "IN" and isinstance(several.get("values"), list):
            kept = value in several["values"]
        elif operation in OPERATIONS.values() and isinstance(text, str):
            kept = {
                "EQUALS": value == text,
                "NOT_EQUALS": value != text,
                "IS_SUBSTRING": text in str(value),
            }[operation]
        else:
            raise Breach(f"filter: predicate {predicate} is not one this API understands")
        if not kept:
            return False
    return True
