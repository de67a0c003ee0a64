"""From the command line to checked settings, and from a mistake to one line."""
