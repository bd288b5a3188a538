"""Networks, teachers and checkpoints."""
