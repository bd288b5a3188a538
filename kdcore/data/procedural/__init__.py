"""A made-up piece of land: streets, buildings, plants, and how a sensor sees them."""
