"""All addresses that the dashboard serves besides its pages."""

from pathlib import Path

from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from xstatic.pkg import leaflet

from kdcore.server.point import point
from kdcore.server.tiles import tile

OWN = Path(__file__).parent / "static"


def map_routes() -> list[BaseRoute]:
    """Tiles, points, Leaflet's files and the map's own script: everything that a map needs, so that it works offline."""
    return [
        Route("/tiles/{study}/{scene}/{layer}/{z}/{x}/{y}.png", tile),
        Route("/point/{study}/{scene}", point),
        Mount("/leaflet/kdcore", StaticFiles(directory=OWN)),
        Mount("/leaflet", StaticFiles(directory=leaflet.BASE_DIR)),
    ]
