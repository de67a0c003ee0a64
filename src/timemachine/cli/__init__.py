"""Command line -> checked settings; an error -> one line."""
