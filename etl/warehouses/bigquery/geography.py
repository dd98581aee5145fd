"""Which texts a BigQuery GEOGRAPHY takes: the part of `values` with places.

WKT, GeoJSON, or WKB in hexadecimal digits ("Loading JSON data", details); the kinds of shapes are those of "Data
types", geography type. Latitudes go from -90 to 90, longitudes wrap around ("Geography functions", ST_GEOGPOINT).
Of WKT and GeoJSON the form and the latitudes are looked at, of WKB that it is one; whether edges cross, BigQuery knows.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from etl.columns import Column
from etl.schemas.types import Unfit, found
from etl.warehouses.bigquery.types import Check

_SHAPES = (
    "POINT",
    "LINESTRING",
    "POLYGON",
    "MULTIPOINT",
    "MULTILINESTRING",
    "MULTIPOLYGON",
    "GEOMETRYCOLLECTION",
)
_GEOJSON = frozenset(shape.lower() for shape in _SHAPES)

_NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?"
_WKT = re.compile(rf"\s*(?:{'|'.join(_SHAPES)})\s*(?:EMPTY\s*|\(.*\)\s*)", re.IGNORECASE | re.DOTALL)
_PAIR = re.compile(rf"(?:^|[(,])\s*{_NUMBER}\s+({_NUMBER})\s*(?=[,)])")
_WITHIN = re.compile(rf"(?:[\s(),]|{_NUMBER}|EMPTY|{'|'.join(_SHAPES)})*", re.IGNORECASE)
# A byte for the order, four for the kind: 1 to 7.
_WKB = re.compile(r"(?:00000000|010)[1-7](?:000000)?(?:[0-9A-F]{2})*", re.IGNORECASE)


def of_text(_column: Column, _typed: bool) -> Check:
    """Return the check for text in a GEOGRAPHY."""
    return _check


def _check(value: str) -> Any:
    if _WKT.fullmatch(value):
        if value.count("(") != value.count(")") or not _WITHIN.fullmatch(value):
            raise Unfit(
                f"GEOGRAPHY takes WKT, such as POINT(8.5 47.4), and this is not whole: {found(value)}"
            )
        for latitude in _PAIR.findall(value):
            _latitude(float(latitude), value)
    elif value.lstrip().startswith("{"):
        _geojson(value)
    elif len(value) < 10 or len(value) % 2 or not _WKB.fullmatch(value):
        raise Unfit(
            "GEOGRAPHY takes WKT, such as POINT(8.5 47.4), GeoJSON or WKB in hexadecimal digits as text, found "
            f"{found(value)}"
        )
    return value


def _geojson(value: str) -> None:
    try:
        shape = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise Unfit(f"GEOGRAPHY takes GeoJSON as text, and this is no JSON: {found(value)}") from error
    shapes = [shape]
    while shapes:
        shape = shapes.pop()
        kind = shape.get("type") if isinstance(shape, dict) else None
        if not isinstance(kind, str) or kind.lower() not in _GEOJSON:
            raise Unfit(f"GEOGRAPHY takes the GeoJSON of a geometry, such as a Point, found {found(value)}")
        inner = shape.get("geometries" if kind.lower() == "geometrycollection" else "coordinates")
        if not isinstance(inner, list):
            raise Unfit(
                f"GEOGRAPHY takes the GeoJSON of a geometry with its coordinates, found {found(value)}"
            )
        if kind.lower() == "geometrycollection":
            shapes += inner
        else:
            _coordinates(inner, value)


def _coordinates(inner: list[Any], value: str) -> None:
    if inner and all(isinstance(item, (int, float)) for item in inner):
        if len(inner) < 2:
            raise Unfit(f"GEOGRAPHY takes places with longitude and latitude, found {found(value)}")
        _latitude(inner[1], value)
        return
    for item in inner:
        if not isinstance(item, list):
            raise Unfit(f"GEOGRAPHY takes numbers as coordinates, found {found(value)}")
        _coordinates(item, value)


def _latitude(latitude: float, value: str) -> None:
    if not -90 <= latitude <= 90:
        raise Unfit(
            f"GEOGRAPHY takes latitudes from -90 to 90, found {latitude:g} in {found(value)}; the longitude comes first"
        )
