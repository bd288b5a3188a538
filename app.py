"""The dashboard: `streamlit run app.py` serves the pages, the map's tiles and its script files from one port."""

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from kdcore.server.guard import Guard
from kdcore.server.logs import hide_secrets
from kdcore.server.routes import BackendAddress, map_routes
from kdcore.ui.people import access_or_exit, base_path, may_see

hide_secrets()
base = base_path()
app = st.App(
    Path(__file__).parent / "pages/frame.py",
    routes=map_routes(base),
    middleware=[
        Middleware(Guard, access=access_or_exit(), identify=may_see, base=base),
        Middleware(BackendAddress, base=base),
    ],
)
