"""Numbers in a row of equal cards."""

from typing import Any

CARD: dict[str, Any] = {"border": True, "height": "stretch", "delta_color": "off", "delta_arrow": "off"}
"""Options of `st.metric`: cards of one height in a row, and what a number is compared to without colour or arrow."""
