"""What a job may say of the content of files, wherever they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from etl.sources.compressions import Compression
from etl.sources.recognition import Format


class ContentOptions(TypedDict, total=False):
    r"""What a job may say of the content of files, wherever they are; `Content` has the defaults.

    Attributes:
        format: `ndjson`, `csv`, `json` (one array of objects, or objects one after the other, each over as many lines
            as it likes), `json-seq` (RFC 7464), `parquet`; None: as the file's name ends, or else as its first bytes
            look; a name that ends in `.json` may be any of JSON's.
        compression: `none`, `gzip`, `zip`, `zstd`, `bzip2`, `xz`; None: as the file's first bytes say, whatever its
            name is. What is compressed within that is told by its first bytes.
        members: which members of a zip file or a tar archive are read: globs, or names, of their paths or of the
            last parts of these. None: all but those that are no data by their names, such as `README.txt`,
            `meta.xml`, `_SUCCESS`; a log line names these. Members are files of their own, in the archive's order.
            They have to be one table: CSV has most of its columns in common, or, where this option names the
            members, one at least; else the job is refused, with their names.
        sheet: which sheet of a workbook is read (xlsx, xlsb, xls, ods; the extra `excel`): its name, or its number from
            1. None: the first one that is shown and not empty; a log line names the others. `header`, `skip_lines`
            and `skip_footer` (rows of the sheet), `types` and `null` mean there what they mean for CSV; see
            `etl.sources.workbook`. A workbook is held in memory: it may have 64 MiB unpacked, a quarter of the memory
            in a small container.
        types: the types of CSV columns by name: `string`, `integer`, `float`, `decimal` (the text, with all its
            digits), `boolean`, `date`, `timestamp` (`csv_types` says what each takes). What they do not name is read as
            the job's `[cast]` or the warehouse's `schema` declares it: text, date and decimal columns get the text of
            the file as it stands, and so do transforms in between; integers, floats and booleans are converted. The
            types of other columns are inferred from 10,000 rows, or a MiB, from the first value on. They may be changed
            while the job is under way.
        delimiter: what separates CSV fields, a character or a few; None: one of `,` `;` tab `|`, whichever fits the
            first rows (`csv_dialect` says how; `etl check` prints what was found). A first line `sep=;` is obeyed.
        header: True: the first line of a CSV file names its columns. False: it does not; they are called
            `column_1`, `column_2` … A list: it does not, and these are their names.
        null: words that stand for a missing value in CSV columns of every type, `""` among them only if it is
            given. None: an empty field and `\N` in every column; `NA`, `N/A`, `n/a`, `NULL`, `null`, `nan`, `-` and the
            like (`csv_types.WORDS`) where the others are numbers, dates or booleans. Among text they are text.
        encoding: of a text, by a name that Python knows, such as `utf-8`, `cp1252`, `utf-16-le`. A byte order mark
            comes first: with one, UTF-16 and UTF-32 are read without being told.
        records: the path of the rows within JSON documents: `results`, `response.docs`, `features` in GeoJSON.
            `*` stands for each member of an object or element of an array: `data.*.rows`; where the path ends in it,
            each member is a row, and its name is put into the field `_key`. What stands beside the rows is passed
            over, however large. With NDJSON and `json-seq` the rows are in each line or text.
        skip_lines: how many lines to pass over at the beginning of a CSV file: a title, or a header in place of which
            `header` gives better names.
        quote: what stands around CSV fields that hold delimiters and line ends; `""`: nothing does, and quotes are
            text. None: `"`; nothing in a file that is TSV by its name or Content-Type.
        escape: what takes the meaning from the character behind it in CSV, such as a backslash. None: nothing does;
            within quotes, a quote is doubled.
        comment: what comments begin with in CSV, such as `#`: such lines are passed over, outside of quotes.
        skip_footer: how many lines at the end of a CSV file hold no rows: totals, notes. Blank ones do not count.
        skip_initial_space: whether blanks behind a delimiter are no part of the CSV field.
        max_record_bytes: how large a record may be in the text, in bytes, and 16 more for each value of JSON: a line,
            an element, an object, a row. None: a 32nd of the memory that the job may take, 64 MiB at most; of a CSV
            row a fourth of that. A line of NDJSON that is longer is a record that cannot be read, and is passed over;
            what is longer elsewhere ends the run. JSON takes 6 times as much memory while it is read, CSV up to 35
            times.
    """

    format: Format | None
    compression: Compression | None
    members: str | Sequence[str] | None
    sheet: str | int | None
    types: Mapping[str, str] | None
    delimiter: str | None
    header: bool | Sequence[str]
    null: Sequence[str] | None
    encoding: str
    records: str | None
    skip_lines: int
    quote: str | None
    escape: str | None
    comment: str | None
    skip_footer: int
    skip_initial_space: bool
    max_record_bytes: int | None
