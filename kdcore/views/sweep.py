"""What all charts of a sweep share. They are Vega-Lite: Streamlit changes the data of such a chart in place, while it builds a Plotly figure anew.

A chart's specification and its short name depend on the sweep's settings only; everything that was measured is in its table. Zoom and
selection survive new trials if key, specification and alternative text stay as they are and Streamlit is told of zooms, too (it
resets what it is not told of):

    st.vega_lite_chart(chart.table, chart.spec, key="map", alt=chart.alt, on_select="rerun" if chart.selects else "ignore")

without `selection_mode`. The selection `trial` holds the clicked trial: `[{"trial": 7.0}]`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from kdcore.evaluation.sweep_report import in_words
from kdcore.runs.sweep_confirm import best_trial
from kdcore.runs.sweep_trials import TrialRecord
from kdcore.settings import SweepSettings
from kdcore.views.arms import ARM_COLOURS

Spec = dict[str, Any]

GREY = "#80848E"  # readable on white and on near-black
BEST = ARM_COLOURS["distilled"]
ALONE = ARM_COLOURS["alone"]
RUNNING = ARM_COLOURS["teacher"]
SCORE = "Mean AP on validation, %"
ZOOM: Spec = {
    "name": "zoom",
    "select": {"type": "interval", "zoom": "wheel![event.ctrlKey || event.metaKey]"},  # else the page could not scroll
    "bind": "scales",
}
"""Drag to move, Ctrl and the wheel (or two fingers) to zoom, double click for the whole."""
PICK: Spec = {"name": "trial", "select": {"type": "point", "fields": ["trial"], "toggle": False}}
PICKED = {"param": "trial", "empty": False}
COLOURED: Spec = {
    "field": "score",
    "type": "quantitative",
    "title": "Mean AP, %",
    "scale": {"scheme": {"name": "viridis", "extent": [0.15, 1]}, "zero": False, "nice": False},
    "legend": {
        "type": "gradient",
        "orient": "right",
        "gradientLength": 160,
        "gradientThickness": 12,
        "tickCount": 4,
        "format": ".1~f",
    },
}
"""Quality as a colour that is perceptually even and told apart with colour blindness.

In one chart either all marks are filled with it or all are lines: a bar for both kinds would be drawn as a row of dots.
"""


class Chart(NamedTuple):
    """A chart of a sweep.

    Attributes:
        table: what is drawn; plain text in it is plain text on screen.
        spec: Vega-Lite specification without data.
        reading: one sentence on how to read it.
        alt: what the chart is; always the same, because a new alternative text makes Streamlit draw the chart anew.
        result: what it shows, in words, for who cannot see it; changes with each trial.
    """

    table: pd.DataFrame
    spec: Spec
    reading: str
    alt: str
    result: str

    @property
    def selects(self) -> bool:
        """Whether it can be zoomed or a trial in it can be chosen."""
        return any("params" in layer for layer in self.spec["layer"])


def standing(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The trials that count: a killed one that is done again is left to its successor."""
    return [trial for trial in trials if trial.retried_as is None]


def finished(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Those that have a quality."""
    return [trial for trial in standing(trials) if trial.state == "finished"]


def score(trial: TrialRecord) -> float:
    """A finished trial's quality in per cent of mean AP."""
    return 100 * trial.values["quality"]


def best_of(trials: Sequence[TrialRecord], settings: SweepSettings) -> TrialRecord | None:
    """The best trial, as the report names it."""
    return best_trial(finished(trials), settings)


def settings_text(trial: TrialRecord, settings: SweepSettings) -> str:
    """'temperature 3.2, alpha 0.7': what is searched, of one trial."""
    return in_words(trial.params, settings.space.searched) if "alpha" in trial.params else ""


def role_text(trial: TrialRecord) -> str:
    """What a trial is in the sweep."""
    roles = {"search": f"trial {trial.number}", "baseline": f"trial {trial.number}: student alone"}
    return roles.get(trial.role, f"trial {trial.number}: the centre, seed {trial.seed}")


def tooltip(*more: tuple[str, str]) -> list[Spec]:
    """What a point tells: its name, its settings, its quality, and further columns of text by title."""
    told = [("name", "Trial"), ("settings", "Settings"), *more]
    fields = [{"field": field, "type": "nominal", "title": title} for field, title in told]
    return [*fields, {"field": "score", "type": "quantitative", "title": "Mean AP, %", "format": ".2f"}]


def where(*kinds: str) -> list[Spec]:
    """Keep the rows of some kinds, for one layer."""
    return [{"filter": {"field": "kind", "oneOf": list(kinds)}}]


def legend_for(field: str, values: Mapping[str, Any], channel: str = "shape") -> Spec:
    """An encoding that gives each value of a field its shape, colour or dash, with a legend above the chart."""
    legend: Spec = {"orient": "top", "title": None, "columns": 3, "labelLimit": 260}
    if channel == "shape":
        legend |= {
            "symbolStrokeColor": GREY,
            "symbolFillColor": "transparent",
            "symbolSize": 90,
            "symbolStrokeWidth": 1.6,
        }
    return {
        "field": field,
        "type": "nominal",
        "scale": {"domain": list(values), "range": list(values.values())},
        "legend": legend,
    }


def table_of(rows: Iterable[Mapping[str, Any]], text: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame:
    """Rows as a table that has the same columns and types whatever is in it; what a row lacks is empty.

    Args:
        rows: of the chart.
        text: names of columns of text.
        numbers: names of columns of numbers.
    """
    table = pd.DataFrame(list(rows), columns=[*text, *numbers])
    return table.assign(**{name: table[name].astype(object).fillna("").astype(str) for name in text}).assign(
        **{name: table[name].astype("float64") for name in numbers}
    )


def counted(number: int, one: str) -> str:
    """'1 trial' or '3 trials'."""
    return f"{number:,} {one}{'' if number == 1 else 's'}"


def best_in_words(best: TrialRecord | None, settings: SweepSettings) -> str:
    """A sentence on the best trial."""
    if best is None:
        return "None has finished yet."
    if best.role == "baseline":
        return f"Best so far is the student alone (trial {best.number}) with {score(best):.1f} % mean AP."
    return f"Best so far is trial {best.number} ({settings_text(best, settings)}) with {score(best):.1f} % mean AP."
