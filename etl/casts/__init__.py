"""What a value is cast to, by the word that `[cast]` has for it: exactly, or not at all.

Nothing becomes null by itself.

| word | takes | gives |
|---|---|---|
| `integer` | whole numbers, also as text; `12.0` is one | `int`, of any size |
| `float` | numbers, also as text | `float` |
| `decimal` | numbers, also as text | `Decimal`, with all digits |
| `boolean` | true, t, yes, y, on, 1 and false, f, no, n, off, 0, in any case | `bool` |
| `string` | anything: numbers as they are written, objects and lists as JSON | text |
| `date` | `YYYY-MM-DD`, or as `format` says | `date` |
| `timestamp` | ISO 8601, or as `format` says, or a number with `unit` | `datetime`, with the text's zone |
| `json` | text that is JSON; what is no text stays | what the JSON says |

| option | of | means |
|---|---|---|
| `null` | all | words that become null |
| `thousands` | numbers | the sign between groups of digits: `1,234,567.8` with `","` |
| `decimal` | numbers | the sign before the fraction, if it is no point: `1.234,5` with `","` |
| `format` | date, timestamp | one form or several, as `datetime.strptime` has them: `"%d.%m.%Y"` |
| `unit` | timestamp | of numbers since 1970 in UTC: `s`, `ms` or `us` |
| `zone` | timestamp | of text without a zone: `UTC`, `Europe/Berlin`; without it, the result has no zone |
| `true`, `false` | boolean | the words for it, instead of those above |

Around numbers, dates, timestamps and booleans blanks do not matter.
"""

from etl.casts.making import cast_for, type_of
from etl.casts.options import Cast, Uncastable

__all__ = ["Cast", "Uncastable", "cast_for", "type_of"]
