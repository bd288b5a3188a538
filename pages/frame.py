"""What surrounds every page: navigation, and how errors are shown. Run by app.py.

It lies beside the pages and not above them: Streamlit takes a folder called `pages` beside the main script for its old kind of
navigation, and would open an address such as /train without this frame.
"""

from pathlib import Path

import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.ui import words
from kdcore.ui.formatting import plain

HERE = Path(__file__).parent

st.set_page_config(page_title="kdcore", page_icon=str(HERE.parent / "kdcore/ui/icon.svg"), layout="wide")
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
