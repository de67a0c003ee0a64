"""What make and .ci/run call, and no user imports: `python -m tools.NAME`."""
