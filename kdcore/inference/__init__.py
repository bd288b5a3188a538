"""From a network and imagery to maps and scores."""
