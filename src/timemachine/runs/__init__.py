"""The folder of a run or a sweep: what it holds, and how a run goes on from it."""
