r"""What divides CSV: found by evidence, or said by the job.

RFC 4180; IANA, text/tab-separated-values (no quoting); Excel's `sep=`; MySQL ("LOAD DATA Statement") and PostgreSQL
("COPY") for `\N`; the W3C's "Model for Tabular Data and Metadata on the Web", section 8, for comments, skipped rows and
blanks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from http_sources import source
from pulling import assert_resumes_everywhere, small_blocks, taken, write

from etl.cli import main
from etl.errors import SourceError
from etl.sources import Files
from tests.web import Answer, Request, WebServer

FOUND: dict[str, tuple[str, str, list[list[Any]]]] = {
    "decimal commas, and a comma in the header": (
        "a.csv", "Name, Vorname;Betrag\nMeier;1,50\nSchulz;2,75\n", [["Meier", "1,50"], ["Schulz", "2,75"]],
    ),
    "decimal commas, and a comma in a name of two": (
        "a.csv", "Name,Ort;Betrag\nA;-1.234,50\nB;2,75\n", [["A", "-1.234,50"], ["B", "2,75"]],
    ),
    "decimal commas between tabs": ("a.txt", "x,y\tz\n1,5\t2\n2,5\t3\n", [["1,5", 2], ["2,5", 3]]),
    "as many commas as semicolons, with blanks": ("a.csv", "a, b;c\nx, y;1\nz, w;2\n", [["x, y", 1], ["z, w", 2]]),
    "Eurostat": ("a.tsv", "f,geo\t2021 \t2022 \nA,DE\t1 \t2 p\nA,FR\t3 \t4\n", [["A,DE", 1, "2 p"], ["A,FR", 3, "4"]]),
    "Eurostat, called otherwise": ("a.txt", "f,geo\t2021\nA,DE\t1\nA,FR\t3\n", [["A,DE", 1], ["A,FR", 3]]),
    "tabs within commas that are fewer": ("a.csv", "a\tb,c\nx,1\ny,2\n", [["x", 1], ["y", 2]]),
    "commas in TSV whose rows are not alike": ("a.tsv", "a\tb,c\n1\tx,y\n2,3\n", [[1, "x,y"], None]),
    "commas within quotes": ("a.csv", 'a;b\n"x,y";1\n"z,w";2\n', [["x,y", 1], ["z,w", 2]]),
    "a caret": ("a.csv", "a^b\nx^1\n", [["x", 1]]),
    "a colon, which times have": ("a.csv", "time\n12:30\n13:30\n", [["12:30"], ["13:30"]]),
    "one column": ("a.csv", "a\nx\ny\n", [["x"], ["y"]]),
    "a separator that is said": ("a.csv", "sep=;\na,x;b\n1;2\n", [[1, 2]]),
    "a separator that is said in quotes": ("a.csv", '\ufeff"sep=|"\r\na|b\r\n1,5|2\r\n', [["1,5", 2]]),
    "TSV, in which quotes are text": ("a.tsv", 'id\tt\n1\t"Al\n2\tX"\n3\t5" d\n', [[1, '"Al'], [2, 'X"'], [3, '5" d']]),
    "TSV whose rows are alike with quotes only": ("a.tsv", 'id\tt\n1\t"a\tb"\n2\tc\n', [[1, "a\tb"], [2, "c"]]),
    "TSV whose names are quoted": ("a.tsv", '"id"\t"t"\n"1"\t"a ""b"""\n', [[1, 'a "b"']]),
    "tabs in what is called CSV": ("a.csv", 'id\tt\n1\t"a\tb"\n', [[1, "a\tb"]]),
    "MySQL's null": ("a.csv", "n,t\n1,\\N\n\\N,x\n", [[1, None], [None, "x"]]),
    "a comment of another width": ("a.csv", "# made in 2024\n#\nid,name\n1,a\n", [[1, "a"]]),
    "a header that begins with a sign": ("a.bed", "#chrom\tstart\nchr1\t5\n", [["chr1", 5]]),
    "a share for a header": ("a.csv", "%,n\n1.5,2\n", [[1.5, 2]]),
    "codes": ("a.csv", "c,n\n12E5,1\n1E10,2.5\n", [["12E5", 1.0], ["1E10", 2.5]]),
    "exponents among fractions": ("a.csv", "c\n12E5\n0.5\n", [[12e5], [0.5]]),
    "more digits than a double has": ("a.csv", "c\n12.34567890123456789\n1.5\n", [["12.34567890123456789"], ["1.5"]]),
    "as many digits as a double gives back": (
        "a.csv", "c\n0.30000000000000004\n0.10000000000000000000\n", [[0.30000000000000004], [0.1]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_what_is_found(tmp_path: Path, name: str) -> None:
    file, text, rows = FOUND[name]
    files = small_blocks(Files(write(tmp_path / file, text), format="csv"), 4)
    assert [[*row.values()] if isinstance(row, dict) else None for row in taken(files)] == rows
    assert_resumes_everywhere(files)


SAID: dict[str, tuple[str, dict[str, Any], list[list[Any]]]] = {
    "quotes that are text": ('a,b\n"x,1\n', {"quote": ""}, [['"x', 1]]),
    "another quote": ("a,b\n'x,y',1\n'it''s',2\n", {"quote": "'"}, [["x,y", 1], ["it's", 2]]),
    "an escape": ('a,b\n"x\\"y",1\nz\\,w,2\n', {"escape": "\\"}, [['x"y', 1], ["z,w", 2]]),
    "an escape, and null": ('a,b\n\\N,1\n\\\\N,2\n"x,\\N",3\n', {"escape": "\\"}, [[None, 1], ["\\N", 2], ["x,N", 3]]),
    "an escaped line end": ("a,b\nx\\\ny,1\n", {"escape": "\\"}, [["x\ny", 1]]),
    "comments": (
        '# a,b\na,b\n#c\n1,x\n2,"\n# none"\n# x\n3,#\n#', {"comment": "#"}, [[1, "x"], [2, "\n# none"], [3, "#"]],
    ),
    "comments of two signs": ("a,b\n//c\n1,/x\n", {"comment": "//"}, [[1, "/x"]]),
    "a footer": ("a,b\n1,x\n2,y\nTotal,2\nSource: us\n\n", {"skip_footer": 2}, [[1, "x"], [2, "y"]]),
    "a footer and no rows": ("a,b\nTotal,0\n", {"skip_footer": 1}, []),
    "blanks behind delimiters": ('a, b\n1, "x, y"\n2,  z\n', {"skip_initial_space": True}, [[1, "x, y"], [2, "z"]]),
    "a delimiter of two characters": ('a||b\n1||x|y\n2||"z||w"\n', {"delimiter": "||"}, [[1, "x|y"], [2, "z||w"]]),
    "a delimiter that is no ASCII": ("a§b\n1§x\n", {"delimiter": "§"}, [[1, "x"]]),
    "a colon": ("root:x:0\nbin:x:1\n", {"delimiter": ":", "header": False}, [["root", "x", 0], ["bin", "x", 1]]),
    "lines before the separator": ("title\nsep=;\na;b\n1;2\n", {"skip_lines": 1}, [[1, 2]]),
    "words that are null everywhere": ("n,t\n1,NA\nNA,x\n", {"null": ["NA"]}, [[1, None], [None, "x"]]),
    "decimals": ("d\n1.10\n+1E5\n 7\n-\n", {"types": {"d": "decimal"}}, [["1.10"], ["+1E5"], ["7"], [None]]),
    "whole numbers with zeros and signs": ("n\n007\n+7\n", {"types": {"n": "integer"}}, [[7], [7]]),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_what_a_job_says(tmp_path: Path, name: str) -> None:
    text, options, rows = SAID[name]
    for block in (1, 6, 1000):
        files = small_blocks(Files(write(tmp_path / "a.csv", text), settle=0, **options), block)
        assert [[*row.values()] for row in taken(files)] == rows
        assert_resumes_everywhere(files)


@pytest.mark.parametrize("kind", ["text/csv", "text/tab-separated-values; charset=utf-8"])
def test_a_content_type_says_that_it_is_tsv(kind: str) -> None:
    text = b'id\tt\n1\t"a"\n'

    def answer(_request: Request) -> Answer:
        return Answer(body=text, headers={"Content-Type": kind})

    with WebServer(answer) as server:
        assert [row["t"] for row in taken(source(server.url + "/export"))] == [
            "a" if kind == "text/csv" else '"a"'
        ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "a.csv",
            "Name, Ort;Betrag\nA;1,50\n",
            "divided by ';' (each of the first 2 rows has 2 fields (',' and ';'",
        ),
        ("a.csv", "a\tb\n1\t2\n", 'divided by tabs (each of the first 2 rows has 2 fields), quoted by "'),
        (
            "a.tsv",
            "a\tb\n1\t2\n",
            "divided by tabs (as it is called, or its Content-Type says), quotes are text",
        ),
        ("a.csv", "sep=|\na|b\n1|2\n", "divided by '|' (as its first line says)"),
        ("a.csv", "a,b\n1,2\n3\n", "divided by ',' (2 of the first 3 rows have 2 fields, as the first)"),
        ("a.csv", "a\n1\n", "no delimiter divides the first row"),
        (
            "a.csv",
            "# made\na,b\n1,2\n",
            "comments before the header, up to line 1, are passed over",
        ),
    ],
)
def test_check_prints_what_was_found_and_why(tmp_path: Path, name: str, text: str, said: str) -> None:
    write(tmp_path / name, text)
    job = write(
        tmp_path / "job.toml",
        f'[source]\ntype = "files"\npaths = "{tmp_path / name}"\n[sink]\ntype = "null"\n[checkpoint]\n'
        f'uri = "{tmp_path / "job.checkpoint.json"}"\n',
    )
    result = CliRunner().invoke(main, ["check", str(job)], prog_name="etl")
    assert said in result.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# a, b\nid,name\nx,y\n", r'line 1 \(byte 0\): it begins with .#.*comment = "#".*skip_lines = 1'),
        ("# x,y\n1.0,2.0\n", r"skip_lines = 1 and header"),
        ("#by,day: 1\n1,2\n", r"skip_lines = 1 and header"),
        ("% a\n# b,c\n1,2\n", r"line 2 .*skip_lines = 2"),
    ],
)
def test_a_line_that_may_be_a_comment_or_the_header_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        taken(Files(write(tmp_path / "a.csv", text)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Report, 2024\nid,v\n1,2\n", r"line 1 .* it may be a title, .*say skip_lines = 1"),
        ("a:b:c\nx:y:z\n", r'columns divided by .:., .*say delimiter = ":", or delimiter = ","'),
        ("a b\n1 2\n3 4\n", r'say delimiter = " ", or'),
        (
            "id   name   v\n1    a      2\n22   bb     33\n",
            r'delimiter = " " and skip_initial_space = true, or',
        ),
        (
            "Land and Ocean,Jan\nYear,Value\n2020,0.5\n2021,0.6\n",
            r"line 1 .* it may be a title, .*skip_lines = 1",
        ),
        ("height,weight\nm,kg\n1,2\n3,4\n", r"skip_lines = 2 where the line behind it holds units"),
        ("1,a\n2,b\n", r"line 1 .* it is a row .*'1' is a number, .*header = false or"),
        ("1.5\n2\n", r"'1.5' is a number"),
        ("x,2024-01-01\ny,2024-01-02\n", r"'2024-01-01' is a date"),
        ("x,2024-01-01T00:00\ny,2024-01-02\n", r"'2024-01-01T00:00' is a time"),
    ],
)
def test_what_may_be_another_table_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path / "a.csv", text)
    with pytest.raises(SourceError, match=said):
        taken(Files(path))


@pytest.mark.parametrize(
    "text",
    [
        "country, 2024\nDE,5\nFR,6\n",
        "time\n12:30\n",
        "full name\nJohn Smith\n",
        "name\nJohn  Smith\nA B C\n",
        "country,2020,2021\nDE,5,6\n",
        "country,2024-01-01,2024-01-02\nDE,5,6\n",
        "q,0.1,0.5\nx,1.5,2.5\n",
        "0,1,2\n5,6,7\n",
        "2024,a\nx,b\n",
        "code,n\nA,x\n1,2\nB,3\n",
        "a,b\nx,y\n1,2\n",
    ],
)
def test_what_looks_like_that_and_is_none_is_read(tmp_path: Path, text: str) -> None:
    assert len(taken(Files(write(tmp_path / "a.csv", text)))) == text.count("\n") - 1


@pytest.mark.parametrize("text", ["id,v\n1,a\nid,v\n2,b\n", "id,v\nx,a\nid,v\ny,b\n"])
def test_a_header_that_comes_again_is_no_row(tmp_path: Path, text: str) -> None:
    files = Files(write(tmp_path / "a.csv", text))
    first, (raw, reason), last = taken(files)
    assert (raw, first["v"], last["v"]) == ("id,v", "a", "b")
    assert "line 3 (byte 9): the row is the header again" in reason
    assert_resumes_everywhere(small_blocks(files, 4))


@pytest.mark.parametrize(
    "text", ['n,t\n1,"a\n2,b"\n3,c\n', 'n,t,y\n1,"Alien,1979\n2,Blade,1982\n3,X",1990\n4,Ok,1991\n']
)
def test_a_quote_that_may_have_eaten_rows_is_told(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "a.csv", text)
    (_, reason), last = taken(Files(path))
    assert 'say quote = ""' in reason
    assert "line 2 (byte " in reason
    assert last["n"] > 2
    assert len(taken(Files(path, quote="", types={"n": "integer"}))) == len(text.splitlines()) - 1
    assert len(taken(Files(path, quote='"'))) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"delimiter": '"'}, "delimiter: '\"' holds \""),
        ({"delimiter": "a\n"}, "delimiter: .* is not one to eight characters"),
        ({"delimiter": r"\t"}, r"in TOML a tab is \"\\t\", in double quotes"),
        ({"quote": "''"}, "quote: .* is not a character"),
        ({"escape": '"'}, "escape: .* is the quote as well"),
        ({"escape": ""}, "escape: .* is not a character"),
        ({"comment": '"#'}, "comment: .* begins with what has another meaning"),
        ({"skip_footer": -1}, "skip_footer: -1 is no number of lines"),
        ({"format": "json", "quote": ""}, "quote: for CSV, and format is 'json'"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Files("a.csv", **options)
