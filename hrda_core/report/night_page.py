"""The pages of `hrda night`: one for each night, and the list of all of them, which says how to go back."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hrda_core.report.html_page import render, write_page

__all__ = ["write_night_pages"]

_STYLE = """
.adopted { background: #00664b; } .kept { background: #4a5560; } .refused { background: #8a5a00; }
.broken { background: #a33b00; }
"""

_NIGHT = """
<p><a href="../index.html">all nights</a></p>
<table><tr><th>recording</th><th>outcome</th><th>why</th><th>report</th><th>began</th></tr>
{% for entry in entries %}<tr><td>{{ entry.recording }}</td>
<td><span class="state {{ entry.outcome }}">{{ entry.outcome }}</span></td>
<td>{{ entry.sentence }}{% if entry.reload and entry.outcome == "adopted" %}<br>
<span class="note">node: {{ entry.reload }}</span>{% endif %}</td>
<td>{% if entry.report %}<a href="../{{ entry.report }}">report</a>{% else %}&ndash;{% endif %}</td>
<td>{{ entry.began }}</td></tr>{% endfor %}</table>
<h2>Models</h2>
<p>The link led to <code>{{ entries[0].before }}</code> at the begin,
and to <code>{{ entries[-1].after }}</code> at the end.</p>
{% if back %}<p>To bring the first one back:</p><pre>{{ back }}</pre>{% endif %}
"""

_INDEX = """
<table><tr><th>night</th><th class="number">adopted</th><th class="number">kept</th><th class="number">refused</th>
<th class="number">broken</th><th>model at its end</th></tr>
{% for row in rows %}<tr><td><a href="nights/{{ row.night }}.html">{{ row.night }}</a></td>
{%- for outcome in ("adopted", "kept", "refused", "broken") %}<td class="number">{{ row.counts[outcome] }}</td>
{%- endfor %}
<td>{{ row.after }}</td></tr>{% endfor %}</table>
<p class="note">A night goes from noon to noon. Each line of journal.jsonl is one recording.</p>
"""


def write_night_pages(folder: Path, entries: Sequence[Mapping[str, Any]], night: str, link: str) -> None:
    """Write the page of a night, `nights/NIGHT.html`, and the list of nights, `index.html`.

    Args:
        folder: the store.
        entries: all lines of the journal.
        night: date of the night.
        link: the link to the model, for the command that goes back.

    Raises:
        DataError: they cannot be written.
        MissingPackageError: jinja2 is not installed.
    """
    here = [entry for entry in entries if entry["night"] == night]
    moved = here[0]["before"] != here[-1]["after"]
    back = f"ln -sfn {shlex.quote(here[0]['before'])} {shlex.quote(link)}" if moved else ""
    values = {"title": f"Night of {night}", "entries": here, "back": back}
    write_page(folder / "nights" / f"{night}.html", render(_NIGHT, values, _STYLE))
    nights = sorted({entry["night"] for entry in entries}, reverse=True)
    rows = [_row(each, [entry for entry in entries if entry["night"] == each]) for each in nights]
    write_page(folder / "index.html", render(_INDEX, {"title": f"Nights of {link}", "rows": rows}, _STYLE))


def _row(night: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    counts = Counter(entry["outcome"] for entry in entries)
    return {"night": night, "counts": counts, "after": Path(entries[-1]["after"]).name}
