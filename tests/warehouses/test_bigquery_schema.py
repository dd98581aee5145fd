"""Schemas as jobs declare them, as BigQuery has them, and what becomes of both together."""

import json

import pyarrow
import pytest
from google.cloud.bigquery import SchemaField

from etl.columns import Column
from etl.errors import ConfigError, WarehouseError
from etl.schemas.types import shown
from etl.warehouses.bigquery.schema import declared, from_api, known, to_api
from etl.warehouses.bigquery.types import arrow_schema, wrong_with_name


def shapes(columns):
    """Return columns as short text, with those of records in brackets."""
    return [
        f"{column.name} {shown(column)}" + (f" [{', '.join(shapes(column.fields))}]" if column.fields else "")
        for column in columns
    ]


def test_a_table_of_a_job_file_declares_columns():
    schema = {
        "at": "TIMESTAMP",
        "id": "integer required",
        "tags": "STRING REPEATED",
        "price": "NUMERIC(10, 2)",
        "whole": "BIGNUMERIC(12)",
        "name": "STRING(20) REQUIRED",
        "address": {"street": "STRING", "geo": {"at": "GEOGRAPHY"}},
        "lines": [{"sku": "STRING", "count": "INT64"}],
    }
    assert shapes(declared(schema)) == [
        "at TIMESTAMP",
        "id INTEGER REQUIRED",
        "tags STRING REPEATED",
        "price NUMERIC(10, 2)",
        "whole BIGNUMERIC(12)",
        "name STRING(20) REQUIRED",
        "address RECORD [street STRING, geo RECORD [at GEOGRAPHY]]",
        "lines RECORD REPEATED [sku STRING, count INTEGER]",
    ]


def test_standard_names_of_types_become_those_that_the_api_answers_with():
    names = ["INT64", "FLOAT64", "BOOL", "DECIMAL", "BIGDECIMAL", "BIGINT"]
    columns = declared({f"c{number}": name for number, name in enumerate(names)})
    assert [c.type for c in columns] == ["INTEGER", "FLOAT", "BOOLEAN", "NUMERIC", "BIGNUMERIC", "INTEGER"]


JSON_SCHEMA = [
    {"name": "id", "type": "INT64", "mode": "REQUIRED", "description": "the key"},
    {"name": "price", "type": "NUMERIC", "precision": "10", "scale": "2"},
    {"name": "code", "type": "STRING", "maxLength": "5", "mode": "NULLABLE"},
    {"name": "lines", "type": "STRUCT", "mode": "REPEATED", "fields": [{"name": "sku", "type": "STRING"}]},
]


def test_a_list_of_tables_declares_columns_as_bigquerys_own_schemas_do():
    columns = declared(JSON_SCHEMA)
    assert shapes(columns) == [
        "id INTEGER REQUIRED",
        "price NUMERIC(10, 2)",
        "code STRING(5)",
        "lines RECORD REPEATED [sku STRING]",
    ]
    assert columns[0].description == "the key"


@pytest.mark.parametrize("content", [JSON_SCHEMA, {"fields": JSON_SCHEMA}])
def test_a_json_file_declares_the_same(tmp_path, content):
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(content))
    assert declared(path) == declared(str(path)) == declared(JSON_SCHEMA)


def test_nothing_declared_is_no_columns():
    assert declared(None) == ()


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (
            {"a": "INTEGR"},
            r'^schema\.a: there is no type "INTEGR" \(did you mean "INTEGER"\?\); there are: BIGN',
        ),
        (
            {"a": "STRING SOMETIMES"},
            r'^schema\.a: expected one of NULLABLE, REQUIRED, REPEATED as mode, found "SOM',
        ),
        ({"a": {"b": 7}}, r"^schema\.a\.b: expected a type, such as .*; found 7"),
        ({"a": ["STRING"]}, r"^schema\.a: expected a type, such as"),
        ({"a": "RECORD"}, r"^schema\.a: a RECORD needs its fields: a = "),
        ({"a": {}}, r"^schema\.a: a RECORD needs at least one field"),
        ({"a": "FLOAT(3)"}, r"^schema\.a: FLOAT has no maximum length"),
        ({"a": "STRING(3, 4)"}, r"^schema\.a: STRING takes one number at most"),
        ({"a": "STRING(0)"}, r"^schema\.a: the maximum length is at least 1, not 0"),
        ({"a": "NUMERIC(40)"}, r"^schema\.a: with a scale of 0 the precision of NUMERIC is 1 to 29, not 40"),
        ({"a": "NUMERIC(40, 10)"}, r"^schema\.a: the scale of NUMERIC is 0 to 9, not 10"),
        ({"a": "NUMERIC(2, 5)"}, r"^schema\.a: with a scale of 5 the precision of NUMERIC is 5 to 34, not 2"),
        ({"a.b": "STRING"}, r"a name must not hold '\.'"),
        ({"_PARTITIONTIME": "DATE"}, r"names that begin with _PARTITION are BigQuery's own"),
        ({"Id": "STRING", "id": "STRING"}, r"^schema: 'Id' and 'id' are the same name to BigQuery"),
        ({"a": {"x": "DATE", "X": "DATE"}}, r"^schema\.a: 'x' and 'X' are the same name"),
        ([{"name": "a", "type": "DATE"}] * 2, r"^schema: 'a' and 'a' are the same name"),
        (7, r"^schema: expected a path, a table or a list of tables, found 7"),
        (["a"], r'^schema\[0\]: expected a table with name and type, found "a"'),
        ([{"type": "DATE"}], r"^schema\[0\]\.name: expected text, found null"),
        ([{"name": "a"}], r"^schema\[0\] \(a\): there is no type null"),
        ([{"name": "a", "type": "DATE", "mod": "x"}], r'there is no "mod" \(did you mean "mode"\?\)'),
        ([{"name": "a", "type": "DATE", "policyTags": {}}], r"policyTags is nothing that a load can set"),
        (
            [{"name": "a", "type": "DATE", "fields": [{"name": "b", "type": "DATE"}]}],
            r"only a RECORD has fields",
        ),
        ([{"name": "a", "type": "RECORD", "fields": "b"}], r"\.fields: expected a list of columns, found"),
        ([{"name": "a", "type": "STRING", "maxLength": "x"}], r"\.maxLength: expected a whole number"),
        ([{"name": "a", "type": "NUMERIC", "scale": 2}], r"a scale needs a precision"),
        ([{"name": "a", "type": "DATE", "precision": 2}], r"DATE has no precision and no scale"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_what_is_allowed(schema, said):
    with pytest.raises(ConfigError, match=said):
        declared(schema)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read"), ("{", "is no JSON"), ("7", "expected a list of columns, found 7")],
)
def test_a_file_that_is_no_schema_is_named(tmp_path, content, said):
    path = tmp_path / "schema.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=rf"^schema \(.*schema\.json\): {said}"):
        declared(path)


@pytest.mark.parametrize("name", ["a", "_x9", "größe", "名前", "a b", "item-1", "100%", "x" * 300])
def test_names_that_bigquery_takes(name):
    assert wrong_with_name(name) is None


@pytest.mark.parametrize(
    "name", ["", "x" * 301, "a.b", "a\n", "a[0]", "a$", "_table_x", "__root__", "_CHANGE_TYPE"]
)
def test_names_that_bigquery_does_not_take(name):
    assert wrong_with_name(name)


def test_columns_are_what_googles_client_makes_of_them():
    columns = declared(JSON_SCHEMA)
    fields = [SchemaField.from_api_repr(field) for field in to_api(columns)]
    assert from_api([field.to_api_repr() for field in fields], "t") == columns
    assert fields[1].precision == 10
    assert fields[2].max_length == 5
    assert fields[3].fields[0].name == "sku"


def test_a_column_of_a_type_that_cannot_be_loaded_is_named():
    fields = [{"name": "r", "type": "RECORD", "fields": [{"name": "during", "type": "RANGE"}]}]
    with pytest.raises(WarehouseError, match=r"table p\.d\.t: column r\.during is of type RANGE"):
        from_api(fields, "p.d.t")


def merge(table=None, declaration=None, pinned=None):
    return known(
        table=None if table is None else declared(table),
        declared=declared(declaration),
        pinned=None if pinned is None else declared(pinned),
        name="p.d.t",
    )


def test_all_columns_that_are_known_are_kept_the_tables_first():
    columns = merge(
        {"id": "INTEGER REQUIRED", "r": {"x": "FLOAT"}},
        {"r": {"z": "DATE"}, "id": "INTEGER"},
        {"R": {"y": "TIME"}},
    )
    assert shapes(columns) == ["id INTEGER REQUIRED", "r RECORD [x FLOAT, y TIME, z DATE]"]


def test_without_a_table_the_declaration_stands():
    assert shapes(merge(None, {"id": "INTEGER REQUIRED"})) == ["id INTEGER REQUIRED"]


def test_the_tables_own_digits_and_lengths_hold_where_none_are_declared():
    table = {"n": "NUMERIC(10, 2)", "s": "STRING(4)"}
    assert merge(table, {"n": "NUMERIC", "s": "STRING"}) == declared(table)


@pytest.mark.parametrize(
    ("table", "declaration"),
    [
        ({"a": "INTEGER"}, {"a": "FLOAT"}),
        ({"a": "INTEGER"}, {"A": "INTEGER REPEATED"}),
        ({"a": "INTEGER"}, {"a": "INTEGER REQUIRED"}),
        ({"a": "NUMERIC"}, {"a": "NUMERIC(10, 2)"}),
        ({"r": {"a": "DATE"}}, {"r": {"a": "TIME"}}),
        ({"r": {"a": "DATE"}}, {"r": "JSON"}),
    ],
)
def test_a_declaration_that_contradicts_the_table_is_told_with_both_sides(table, declaration):
    with pytest.raises(
        WarehouseError, match=r"^column \S+: the job's schema has .*, table p\.d\.t has .*; make"
    ):
        merge(table, declaration)


@pytest.mark.parametrize("new", [{"b": "DATE REQUIRED"}, {"r": {"b": "DATE REQUIRED"}}])
def test_a_required_column_cannot_be_added_to_a_table_that_exists(new):
    with pytest.raises(
        WarehouseError, match=r"cannot be added to a table that exists: declare it without REQUIRED"
    ):
        merge({"a": "DATE"}, new)


def test_a_table_that_was_altered_since_columns_were_pinned_holds():
    table = {"n": "NUMERIC", "s": "STRING(9)", "q": "DATE"}
    assert merge(table, None, {"n": "INTEGER", "s": "STRING(4)", "q": "DATE REQUIRED"}) == declared(table)


def test_a_table_that_was_made_anew_with_another_type_is_told():
    with pytest.raises(
        WarehouseError, match=r"^column a: the checkpoint has INTEGER, table p\.d\.t has DATE; alter"
    ):
        merge({"a": "DATE"}, None, {"a": "INTEGER"})


def test_a_declaration_that_contradicts_what_is_pinned_is_told():
    with pytest.raises(
        WarehouseError, match=r"^column a: the job's schema has FLOAT, the checkpoint has INTEGER"
    ):
        merge(None, {"a": "FLOAT"}, {"a": "INTEGER"})


def test_every_type_has_its_arrow_type_but_those_that_parquet_cannot_bring():
    schema = {
        "s": "STRING REQUIRED",
        "y": "BYTES",
        "i": "INTEGER",
        "f": "FLOAT",
        "n": "NUMERIC(10, 2)",
        "b": "BIGNUMERIC",
        "o": "BOOLEAN",
        "t": "TIMESTAMP",
        "d": "DATE",
        "c": "TIME",
        "l": "DATETIME",
        "g": "GEOGRAPHY",
        "j": "JSON",
        "v": "INTERVAL",
        "r": [{"x": "DATE"}],
        "only": {"j": "JSON"},
    }
    assert arrow_schema(declared(schema)) == pyarrow.schema(
        [
            pyarrow.field("s", pyarrow.string(), nullable=False),
            ("y", pyarrow.binary()),
            ("i", pyarrow.int64()),
            ("f", pyarrow.float64()),
            ("n", pyarrow.decimal128(38, 9)),
            ("b", pyarrow.decimal256(76, 38)),
            ("o", pyarrow.bool_()),
            ("t", pyarrow.timestamp("us", tz="UTC")),
            ("d", pyarrow.date32()),
            ("c", pyarrow.time64("us")),
            ("l", pyarrow.timestamp("us")),
            ("g", pyarrow.string()),
            ("r", pyarrow.list_(pyarrow.struct([("x", pyarrow.date32())]))),
        ]
    )


def test_a_columns_text_says_what_it_was_declared_with():
    assert shown(Column(name="a", type="STRING", max_length=3, mode="REPEATED")) == "STRING(3) REPEATED"
