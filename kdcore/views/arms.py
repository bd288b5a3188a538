"""The arms on screen: one name, one colour, one dash and one marker for each, everywhere.

The colours are Okabe and Ito's, which people with colour blindness can tell apart; dash and marker tell the arms apart
without any colour.
"""

ARM_NAMES = {
    "teacher": "Teacher",
    "alone": "Student alone",
    "distilled": "Distilled student",
    "all_labels": "Student with all labels",
}
ARM_COLOURS = {"teacher": "#0072B2", "alone": "#D55E00", "distilled": "#009E73", "all_labels": "#CC79A7"}
ARM_DASHES = {"teacher": "solid", "alone": "dash", "distilled": "dashdot", "all_labels": "dot"}
ARM_SYMBOLS = {"teacher": "circle", "alone": "square", "distilled": "diamond", "all_labels": "triangle-up"}

SHAPES = {
    "circle": "border-radius:50%",
    "square": "transform:scale(.9)",
    "diamond": "transform:rotate(45deg) scale(.88)",
    "triangle-up": "clip-path:polygon(50% 0,100% 100%,0 100%)",
}


def tint(colour: str, opacity: float) -> str:
    """A colour '#RRGGBB' with an opacity in [0, 1], as Plotly and browsers understand it."""
    red, green, blue = bytes.fromhex(colour[1:])
    return f"rgba({red},{green},{blue},{opacity:g})"


def key_html(arm: str) -> str:
    """An arm's marker as it looks in the figures; Streamlit lets pass no inline drawing, so it is a shaped box."""
    return (
        f'<span aria-hidden="true" style="display:inline-block;width:.78em;height:.78em;margin-right:.5em;'
        f'background:{ARM_COLOURS[arm]};{SHAPES[ARM_SYMBOLS[arm]]}"></span>'
    )
