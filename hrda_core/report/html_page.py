"""The HTML pages as jinja2 templates: the frame, and the body for a run.

Everything is inside the file (style, pictures as base64), so that a report can be mailed and read without a network.
Values are escaped by jinja2's `autoescape`; only pictures, which are base64, are inserted as they are.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from hrda_core.errors import require
from hrda_core.whole_files import write_whole

__all__ = ["RUN_PAGE", "jpeg", "png", "render", "write_page"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1 { margin: .5rem 0 0; } h2 { margin: 2.2rem 0 .6rem; border-bottom: 1px solid #ccc; } h3 { margin: 1.2rem 0 .3rem; }
img { max-width: 100%; height: auto; } img.panel { border: 1px solid #ccc; }
table { border-collapse: collapse; margin: .5rem 0; } td, th { padding: .15rem .7rem; text-align: left; }
th { border-bottom: 1px solid #999; } tr:nth-child(even) td { background: #f5f5f5; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.mean td { border-top: 1px solid #999; font-weight: 600; }
pre { background: #f5f5f5; padding: .7rem; overflow-x: auto; font-size: 13px; }
.state { display: inline-block; padding: .1rem .7rem; border-radius: .3rem; font-weight: 600; color: #fff; }
.finished { background: #00664b; } .stopped { background: #8a5a00; } .failed { background: #a33b00; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0; }
.tile { border: 1px solid #ccc; border-radius: .4rem; padding: .5rem 1rem; } .tile b { font-size: 1.6rem; }
.note { color: #555; } .warning { border-left: 4px solid #a33b00; padding-left: .7rem; }
"""

_FRAME = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title><style>{{ style | safe }}</style></head><body>
<h1>{{ title }}</h1>
{% macro figure(picture, text) %}{% if picture %}<h3>{{ text }}</h3>
<img src="{{ picture }}" alt="{{ text }}">{% endif %}{% endmacro %}
{% macro class_table(table) %}<table><tr><th>class</th>
{%- for column in table.columns %}<th class="number">{{ column }}</th>{% endfor %}</tr>
{% for row in table.rows %}<tr{% if row.mean %} class="mean"{% endif %}><td>{{ row.name }}</td>
{%- for value in row.cells %}<td class="number">{{ value }}</td>{% endfor %}</tr>
{% endfor %}</table>{% endmacro %}
BODY
<p class="note">Written by hrda_ros {{ version }}.</p>
</body></html>
"""

RUN_PAGE = """
<p><span class="state {{ state }}">{{ state }}</span> {{ verdict }}</p>
<div class="tiles">{% for tile in tiles %}<div class="tile"><div>{{ tile.label }}</div>
<div><b>{{ tile.mean_iou }}</b> % mIoU</div><div class="note">{{ tile.text }}</div></div>{% endfor %}</div>
{% if not tiles %}<p>No data set was scored in this run.</p>{% endif %}
{% if missing %}<ul class="warning">{% for text in missing %}<li>{{ text }}</li>{% endfor %}</ul>{% endif %}

<h2>Where it started, and what departs from the paper</h2>
{% if weights %}<p{% if not weights.complete %} class="warning"{% endif %}>Weights: {{ weights.text }}</p>
{% else %}<p>Which weights the run started from is not recorded.</p>{% endif %}
{% if deviations %}<ul>{% for text in deviations %}<li>{{ text }}</li>{% endfor %}</ul>
{% else %}<p>No departure from the paper is recorded.</p>{% endif %}

<h2>Curves</h2>
{{ figure(curves.scores, "mIoU on the validation sets, %") }}
{{ figure(curves.losses, "Losses, weighted; mean over 3 % of the run") }}
{{ figure(curves.shares, "Pseudo-label weight and accuracies on training crops") }}
{{ figure(curves.others, "Other measurements") }}
{{ figure(curves.rate, "Learning rate of the encoder") }}
{% if not curves.losses %}<p>No steps are logged.</p>{% endif %}

<h2>Scores by class</h2>
{% for table in tables %}<h3>IoU in the groups {{ table.groups }}, %</h3>
{{ class_table(table) }}<img src="{{ table.bars }}" alt="IoU by class">
{% else %}<p>There are none.</p>{% endfor %}

<h2>What was taken for what</h2>
{% for entry in confusions %}{{ figure(entry.picture, entry.label) }}
{% else %}<p>No confusion matrix is recorded.</p>{% endfor %}

<h2>What the steps saw</h2>
{% for entry in panels %}<h3>Iteration {{ entry.iteration }}</h3>
<img class="panel" src="{{ entry.picture }}" alt="iteration {{ entry.iteration }}">
{% else %}<p>No pictures were kept; pictures_every of the recipe asks for them.</p>{% endfor %}
{% if older_panels %}<p class="note">{{ older_panels }} older ones are in the folder panels of the run.</p>{% endif %}

<h2>Where the time went</h2>
{% if time %}<table>{% for name, value in time.rows %}<tr><td>{{ name }}</td><td class="number">{{ value }}</td></tr>
{% endfor %}</table>{% if time.advice %}<p class="warning">{{ time.advice }}</p>{% endif %}
{% else %}<p>No times are logged.</p>{% endif %}

<h2>Environment</h2>
{% if command %}<pre>{{ command }}</pre>{% endif %}
{% if environment %}<table>{% for name, value in environment %}<tr><td>{{ name }}</td><td>{{ value }}</td></tr>
{% endfor %}</table>{% else %}<p>Not recorded.</p>{% endif %}

<h2>Label audit</h2>
{% if audit %}<pre>{{ audit }}</pre>{% else %}<p>Not recorded.</p>{% endif %}

<h2>The resolved recipe</h2>
{% if recipe %}<pre>{{ recipe }}</pre>{% else %}<p>Not recorded.</p>{% endif %}
"""


def render(body: str, values: dict[str, Any], style: str = "") -> str:
    """Return the HTML text of a page; `values` needs a `title` and what the body names.

    `style` extends the common one.
    """
    from hrda_core import __version__

    jinja2 = require("jinja2", "train")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(_FRAME.replace("BODY", body))
    return str(template.render(style=_STYLE + style, version=__version__, **values))


def write_page(path: Path, text: str) -> Path:
    """Write the page whole or not at all, and return its path.

    Raises:
        DataError: the folder cannot be written.
    """
    write_whole(path, text)
    return path


def png(picture: bytes) -> str:
    """Return a PNG as the source of an `img`."""
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def jpeg(picture: bytes) -> str:
    """Return a JPEG as the source of an `img`."""
    return f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
