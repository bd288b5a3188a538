"""What the dashboard serves besides its pages: map tiles and the map's own script files, from the same port."""
