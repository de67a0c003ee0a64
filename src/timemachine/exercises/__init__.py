"""The exercises of the book: measurements, tables and figures.

`conf/exercise/<name>.yaml` defines the runs of an exercise, `conf/exercise/<recipe>/<name>.yaml` those with a recipe.
The module of the same name in this package reports them:

- the first line of its docstring is the title of the report;
- `table(jobs)` returns the table. Its index has the settings of a row, its cells are texts, numbers or `Estimate`s;
- `figure(jobs)` draws the figure, and `CAPTION` describes it;
- `SETUP` describes the runs and the columns;
- `SETTINGS` are the settings by which the table tells runs apart, besides the seed and `data.start`, which repeat a
  run. Runs that differ in other settings are rejected. None: the table tells runs apart by every setting;
- `FORMATS` has the format specifications of columns, if they differ from the usual ones.

`jobs` has one row per run that completed or diverged. Its columns are those of summary.csv and all settings, also those
that do not vary: `model.lr`, `val/perplexity`, `stream/test/bits_per_byte`, `folder`. A missing value is NaN.

`measure(model, data)` is the probe of that name, which runs on each trained model (`study.probes`).

In `study`: `report` writes it, `comparison` (significance of differences), `outcomes` (whether a run learned),
`drawing` (figures in one style).
"""
