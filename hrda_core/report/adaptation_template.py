"""The page of an adaptation as a jinja2 template, and the style that only this page needs."""

from __future__ import annotations

__all__ = ["ADAPTATION_PAGE", "ADAPTATION_STYLE"]

ADAPTATION_STYLE = """
* { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.banner { border-radius: .5rem; padding: .8rem 1.2rem; margin: 1rem 0; color: #fff; }
.banner strong { display: block; font-size: 1.7rem; line-height: 1.25; }
.adopt { background: #00664b; } .keep { background: #1d4f7c; } .chosen { background: #8a5a00; }
.wide { overflow-x: auto; } td { vertical-align: top; overflow-wrap: anywhere; } td.number { white-space: nowrap; }
.measure .note { font-size: 13px; max-width: 44rem; overflow-wrap: normal; }
.change { display: block; font-size: 12px; } .better { font-weight: 600; color: #00664b; } .worse { color: #a33b00; }
.bar { height: .8rem; min-width: 1px; border: 1px solid #777; } .shares td { min-width: 6rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); gap: .5rem; }
figure { margin: 0; } figure img { display: block; width: 100%; } figcaption { font-size: 13px; color: #555; }
.legend span { display: inline-block; margin-right: .9rem; white-space: nowrap; }
.legend i { display: inline-block; width: .9rem; height: .9rem; margin-right: .3rem; border: 1px solid #777;
  vertical-align: -.1rem; }
@media (max-width: 40rem) { td, th { padding: .15rem .35rem; } .banner strong { font-size: 1.35rem; } }
@media print { body { max-width: none; font-size: 11px; } h2, h3 { break-after: avoid; }
  .banner, .pictures, figure, tr, img { break-inside: avoid; } pre { white-space: pre-wrap; } }
"""

ADAPTATION_PAGE = """
<div class="banner {{ banner.kind }}"><strong>{{ banner.headline }}</strong>{{ banner.text }}</div>
{% for text in warnings %}<p class="warning">{{ text }}</p>{% endfor %}
{% if swap %}<p>Swap it into the running node, between two frames:</p>
<pre>{{ swap }}</pre>{% endif %}
<div class="tiles">{% for tile in tiles %}<div class="tile"><div>{{ tile.name }}</div>
<div>{{ tile.before }} → <b>{{ tile.after }}</b></div><div class="note">{{ tile.text }}</div></div>{% endfor %}</div>

{% if person %}<h2>What a person said</h2>
<p>{{ person.text }}</p>
{% if person.rows %}<table><tr><th>class</th><th class="number">B minus A, points</th><th class="number">between</th>
<th class="number">and</th><th class="number">questions</th></tr>
{% for row in person.rows %}<tr><td>{{ row.name }}</td>
{%- for cell in row.cells %}<td class="number">{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>{% endif %}
<p class="note">{{ person.note }} A class counts the pixels that one of the models gives it.</p>{% endif %}

<h2>{{ "What the verdict says, without labels" if person else "Why" }}</h2>
{% if reasons %}<ul>{% for text in reasons %}<li>{{ text }}</li>{% endfor %}</ul>
{% else %}<p>No reason is recorded.</p>{% endif %}
{% for entry in refusals %}<h3>What speaks against the {{ entry.name }}</h3>
<ul>{% for text in entry.reasons %}<li>{{ text }}</li>{% endfor %}</ul>
{% else %}<p>No other candidate was refused.</p>{% endfor %}

<h2>Measures</h2>
{% if measures %}<p>On {{ frames }} held-out frames of the recording, which nothing was adapted on. The small figures
are differences to the given model, ✓ marks the better values.</p>
<div class="wide"><table class="measures"><tr><th>measure</th>
{%- for name in candidates %}<th class="number">{{ name }}</th>{% endfor %}</tr>
{% for row in measures %}<tr><td class="measure"><b>{{ row.name }}</b>{% if row.unit %}, {{ row.unit }}{% endif %}
<div class="note">{{ row.text }}</div></td>
{%- for cell in row.cells %}<td class="number {{ cell.mark }}">{{ cell.text }}
{%- if cell.change %}<span class="change">{{ cell.change }}{{ " ✓" if cell.mark == "better" }}</span>{% endif -%}
</td>{% endfor %}</tr>
{% endfor %}</table></div>
{% if unmeasured %}<p class="note">Not measured here: {{ unmeasured | join("; ") }}.</p>{% endif %}
{% else %}<p>Nothing was measured.</p>{% endif %}

<h2>Scores against labels of the recording</h2>
{% if labelled %}<p>The verdict was made without these labels.{% if labels_text %} {{ labels_text }}{% endif %}</p>
<div class="wide">{{ class_table(labelled) }}</div>
{% else %}<p>No labels of the recording were given, so that nothing can be said about the true accuracy.</p>{% endif %}

<h2>What was forgotten</h2>
{% if forgetting %}<p>IoU by class on held-out images of the source. A class whose bar became much shorter was
forgotten.</p>
<img src="{{ forgetting }}" alt="IoU by class on held-out source images">
{% else %}<p>No labelled source images were held out, so that forgetting was not measured.</p>{% endif %}

<h2>Which classes the models see</h2>
{% if shares %}<p>Share of all pixels of the held-out frames, %. All candidates saw the same frames: a class that
vanishes, or that swallows others, deserves a look at the pictures below.</p>
<div class="wide"><table class="shares"><tr><th>class</th>
{%- for name in shares.candidates %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in shares.rows %}<tr><td>{{ row.name }}</td>
{%- for cell in row.cells %}<td>{{ cell.text }}
<div class="bar" style="width: {{ cell.width }}%; background: {{ row.colour }}"></div></td>{% endfor %}</tr>
{% endfor %}</table></div>
{% else %}<p>The shares of the classes were not measured.</p>{% endif %}

<h2>Frames that changed most</h2>
{% if changed %}<p>Given against {{ compared }}. The last picture shows what changed, in the colour of the new
class.</p>
<p class="legend">{% for entry in legend %}<span><i style="background: {{ entry.colour }}"></i>{{ entry.name }}</span>
{% endfor %}</p>
{% for frame in changed %}<h3>{{ frame.name }}: {{ frame.percent }} % of the pixels changed</h3>
<div class="pictures">{% for picture in frame.pictures %}<figure>
<img src="{{ picture.source }}" alt="{{ frame.name }}, {{ picture.caption }}">
<figcaption>{{ picture.caption }}</figcaption></figure>{% endfor %}</div>
{% endfor %}
{% else %}<p>There is no pair of masks to compare.</p>{% endif %}

<h2>Which frames were used</h2>
{% if selection.rows %}<p>{{ selection.text }}</p>
<table><tr><th>reason</th><th class="number">frames</th><th>meaning</th></tr>
{% for row in selection.rows %}<tr><td>{{ row.reason }}</td><td class="number">{{ row.count }}</td>
<td>{{ row.text }}</td></tr>
{% endfor %}</table>
{% else %}<p>How frames were selected is not recorded.</p>{% endif %}
{% if selection.picture %}<img src="{{ selection.picture }}" alt="frames over time, and some of each kind">{% endif %}

<h2>Training</h2>
{% if training.text %}<p>{{ training.text }}</p>{% endif %}
{{ figure(training.curves.scores, "mIoU on the validation sets, %") }}
{{ figure(training.curves.losses, "Losses, weighted; mean over 3 % of the run") }}
{{ figure(training.curves.shares, "Pseudo-label weight and accuracies on training crops") }}
{% for entry in training.panels %}<h3>What step {{ entry.iteration }} saw</h3>
<img class="panel" src="{{ entry.picture }}" alt="step {{ entry.iteration }}">{% endfor %}

<h2>Where the time went</h2>
{% if stages %}<table>{% for name, text in stages %}<tr><td>{{ name }}</td><td class="number">{{ text }}</td></tr>
{% endfor %}</table>
{% else %}<p>No times are recorded.</p>{% endif %}

<h2>What to keep in mind</h2>
{% if notes %}<ul>{% for text in notes %}<li>{{ text }}</li>{% endfor %}</ul>
{% else %}<p>Nothing was given up, and nothing departs from the method.</p>{% endif %}

<h2>Settings</h2>
{% if command %}<pre>{{ command }}</pre>{% endif %}
{% if settings %}<table>{% for name, value in settings %}<tr><td>{{ name }}</td><td>{{ value }}</td></tr>
{% endfor %}</table>
{% else %}<p>No settings are recorded.</p>{% endif %}
"""
