"""The dashboard: `streamlit run app.py` serves the pages, the map's tiles and its script files from one port."""

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from kdcore.server.address import BackendAddress
from kdcore.server.routes import map_routes
from kdcore.server.warm import warm

# Streamlit looks at the host of its WebSocket only: here the same list is asked for every page, tile and file.
hosts = st.get_option("server.allowedHosts") or ["*"]
app = st.App(
    Path(__file__).parent / "pages/frame.py",
    routes=map_routes(),
    middleware=[
        Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
        Middleware(BackendAddress),
    ],
    lifespan=warm,
)
