"""From a trained student to production: export, what it costs to use, what is known about it."""
