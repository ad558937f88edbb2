"""The few HTML parts the page is put together from."""

import base64
import re
from collections.abc import Iterable, Sequence
from html import escape


def image(png: bytes, alt: str) -> str:
    """A PNG inside the page; its pixels stay sharp when enlarged."""
    return f'<img class="map" alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def prose(text: str) -> str:
    """Plain text with `code` in backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def figure(svg: str, caption: str, width: int = 1120) -> str:
    """A drawn figure with its caption; `width` in CSS pixels is the largest it grows to."""
    return f'<figure style="--w:{width}px">{svg}<figcaption>{escape(caption)}</figcaption></figure>'


def section(anchor: str, title: str, *parts: str) -> str:
    """A section with an anchor."""
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>\n{"".join(parts)}</section>\n'


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f"<p{f' class={kind}' if kind else ''}>{prose(text)}</p>\n"


def listing(items: Iterable[str]) -> str:
    """A bulleted list of plain text."""
    return f"<ul>{''.join(f'<li>{prose(item)}</li>' for item in items)}</ul>\n"


def cell(text: str, kind: str = "", link: str = "", bar: float | None = None) -> str:
    """A table cell: text, CSS class, target of its link, and a bar of 0 to 1 behind it."""
    inner = f'<a href="#{escape(link)}">{escape(text)}</a>' if link else escape(text)
    style = f' style="--v:{max(bar, 0) * 100:.0f}"' if bar is not None else ""
    kinds = " ".join(k for k in (kind, "bar" if bar is not None else "") if k)
    named = f' class="{kinds}"' if kinds else ""
    return f"<td{named}{style}>{inner}</td>"


def group(text: str, columns: int) -> str:
    """A heading row inside a table."""
    return f'<tr><th class="group" colspan="{columns}">{escape(text)}</th></tr>'


def table(head: Sequence[str], rows: Iterable[str], texts: int = 1) -> str:
    """A table of finished rows; the first `texts` columns are words, the others numbers."""
    heads = "".join(f"<th{' class=t' if at < texts else ''}>{escape(name)}</th>" for at, name in enumerate(head))
    body = "\n".join(rows)
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>\n'
