"""From what a user types to checked settings, and from a mistake to one line."""
