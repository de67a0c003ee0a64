# What lower_bounds and upper_bounds share; each says in PYTHON which interpreter.
# ENVIRONMENT: a folder to keep the environment in; if unset, it is removed at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1

environment=${ENVIRONMENT:-$(mktemp -d)}
[ -n "${ENVIRONMENT:-}" ] || trap 'rm -rf "$environment"' EXIT

install() {
    "$PYTHON" -m venv "$environment"
    "$environment/bin/python" -m pip --disable-pip-version-check install --quiet "$@"
}

# Tests of code that calls Lightning, Hydra, W&B and other libraries: results may differ with their versions.
CORE=(tests/launchers tests/run/test_{program,recorder,resuming,run,weights}.py tests/study/test_sweep.py
    tests/texts/test_download.py tests/weights_and_biases/test_runs.py
    tests/test_{conf,ddp,perplexity,programs}.py)

run_tests() {
    "$environment/bin/python" -m pytest -q -o cache_dir="$environment/cache" "$@" -n auto --dist loadfile
}
