"""What surrounds every page: login where there is one, navigation, and how errors are shown. Run by app.py.

It lies beside the pages and not above them: Streamlit takes a folder called `pages` beside the main script for its old kind of
navigation, and would open an address such as /train without this frame.
"""

from pathlib import Path

import streamlit as st

from kdcore.errors import KdcoreError
from kdcore.ui import people, words
from kdcore.ui.address import impossible_number
from kdcore.ui.formatting import plain

HERE = Path(__file__).parent


def show() -> None:
    """The page that the address names."""
    page = st.navigation(
        [
            st.Page(
                HERE / entry.file, title=entry.title, icon=entry.icon, help=entry.help, default=entry is words.PAGES[0]
            )
            for entry in words.PAGES
            if (HERE / entry.file).is_file()
        ],
        position="top",
    )
    st.set_page_config(page_title=f"{page.title} · kdcore")  # tabs can be told apart
    st.html(HERE.parent / "kdcore/ui/style.css")
    try:
        people.show_person()
        page.run()
    except KdcoreError as error:
        st.error(plain(str(error)), icon=":material/error:")
    except (OverflowError, ValueError):
        odd = impossible_number()
        if odd is None:
            raise
        st.error(f"The address holds a number for {plain(odd)} that no setting can have.", icon=":material/error:")


st.set_page_config(page_title="kdcore", page_icon=str(HERE.parent / "kdcore/ui/icon.svg"), layout="wide")
if people.admit():
    show()
