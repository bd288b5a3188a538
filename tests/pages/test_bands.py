"""The choice of bands on the Map page."""

import pytest
from streamlit.testing.v1 import AppTest


def page(shown: tuple[int, ...], count: int) -> None:
    import streamlit as st

    from kdcore.data.spectrum import Band
    from kdcore.inference.layer_index import SceneLayers
    from kdcore.ui.bands import choose_bands

    scene = SceneLayers(
        id="a", name="a", height=64, width=64, part=(0, 0, 64, 64), georeferenced=False, unit="pixels", metres_per_pixel=None,
        crs="EPSG:3857", transform=(1, 0, 0, 0, -1, 0), zoom=1, shown=shown,
        bands=tuple(Band(number=number) for number in range(1, count + 1)),
    )  # fmt: skip
    st.text(str(choose_bands(scene)))


@pytest.mark.parametrize(("shown", "coloured"), [((3, 2, 1), (3, 2, 1)), ((2,), (1, 2, 3))])
def test_grey_becomes_colours_and_back(shown, coloured):
    """Also where the networks see one band or two of many, so that the imagery opens in grey."""
    at = AppTest.from_function(page, args=(shown, 5), default_timeout=600).run()
    if len(shown) == 3:
        at.toggle(key="grey").set_value(True).run()
        assert at.text[0].value == "(3,)"
    assert at.toggle(key="grey").value
    at.toggle(key="grey").set_value(False).run()
    assert not at.exception
    assert not at.toggle(key="grey").value
    assert [at.selectbox(key=f"band {place}").value for place in range(3)] == list(coloured)
    at.selectbox(key="band 1").set_value(5).run()
    assert at.text[0].value == str((coloured[0], 5, coloured[2]))
