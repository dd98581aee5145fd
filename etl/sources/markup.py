"""Pages and documents in place of data: HTML and XML, told from a field of CSV that begins like them."""

from __future__ import annotations

import re

from etl.sources.refusals import Refused

_BLANK = " \t\r\n"
# The WHATWG's MIME Sniffing Standard, section 7.1: with these, and a blank or > after them, a page begins. The first
# ones begin nothing else, the others may be a piece of text.
_HTML = re.compile(r"<(!doctype html|html|head|body|script|iframe)[\s>]", re.IGNORECASE)
_HTML_PIECE = re.compile(
    r"<(h1|div|font|table|a|style|title|b|br|p|center|form|meta|link|span|ul|noscript)[\s/>]", re.IGNORECASE
)
_COMMENT = re.compile(r"<!--.*?(-->|\Z)", re.DOTALL)
# Extensible Markup Language 1.0, sections 2.8 and 3.1. An element's name in <> is a header of CSV as well, as those of
# stock exchanges (<TICKER>,<DATE>): what follows it tells.
_XML = re.compile(r"<(\?xml[\s?]|!DOCTYPE\s|!\[CDATA\[|\?[A-Za-z][\w.-]*\s)")
_ELEMENT = re.compile(
    r"""<[A-Za-z_][\w:.-]*(\s+[\w:.-]+\s*=\s*("[^"]*"|'[^']*'))*\s*(?P<empty>/)?>(?P<next>.?)"""
)


def refuse_markup(text: str, *, as_csv: bool) -> None:
    """Refuse HTML and XML.

    Args:
        text: the first characters, without blanks before them.
        as_csv: the job says that it is CSV, so that what could be its first field is that.

    Raises:
        Refused: it is one of both.
    """
    while text.startswith("<!--"):
        text = _COMMENT.sub("", text, count=1).lstrip(_BLANK)
        if not text:
            text = "<!--"
            break
    if not text.startswith("<"):
        return
    is_html = _HTML.match(text) or re.match(
        r"<\?xml[^>]*>\s*(<!--.*?-->\s*)*<(!doctype\s+)?html", text, re.I | re.S
    )
    if is_html or (not as_csv and _HTML_PIECE.match(text) and not _goes_on_as_csv(text)):
        raise Refused(
            "HTML",
            "it is HTML, a page and not data: a login or an error, perhaps, or a table that was saved as a page",
            "look at it in a browser, and correct the path or URL; or save its table as CSV"
            + ("" if is_html else '; if it is CSV all the same, set format = "csv"'),
        )
    is_xml = _XML.match(text) is not None
    if is_xml or text == "<!--" or (not as_csv and _is_element(text)):
        raise Refused(
            "XML",
            "it is XML, which is not read",
            "make it NDJSON, CSV or Parquet first"
            + ("" if is_xml else '; if it is CSV all the same, set format = "csv"'),
        )


def _is_element(text: str) -> bool:
    found = _ELEMENT.match(text)
    if found is None or _goes_on_as_csv(text):
        return False
    return (
        bool(found["empty"])
        or "</" in text
        or "/>" in text
        or text[found.end("next") - 1 :].lstrip().startswith("<")
    )


def _goes_on_as_csv(text: str) -> bool:
    """Say whether a delimiter stands behind the first tag."""
    found = _ELEMENT.match(text)
    return found is not None and found["next"] in (",", ";", "\t", "|")
