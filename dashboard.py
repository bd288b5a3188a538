"""The dashboard's frame: navigation, and what every page has in common. Run by app.py."""

from pathlib import Path

import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.ui import words
from kdcore.ui.formatting import plain

HERE = Path(__file__).parent

st.set_page_config(page_title="kdcore", page_icon=str(HERE / "kdcore/ui/icon.svg"), layout="wide")
page = st.navigation(
    [
        st.Page(HERE / entry.file, title=entry.title, icon=entry.icon, help=entry.help, default=entry is words.PAGES[0])
        for entry in words.PAGES
        if (HERE / entry.file).is_file()
    ],
    position="top",
)
try:
    page.run()
except KdcoreError as error:
    st.error(plain(str(error)), icon=":material/error:")
