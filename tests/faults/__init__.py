"""What a machine does to a program: it kills it, has no room, cannot be written to, turns the clock."""
