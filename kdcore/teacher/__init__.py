"""The teacher: frozen networks, what they see of a scene, and the soft labels that are computed of it once."""
