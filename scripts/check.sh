#!/usr/bin/env bash
# check.sh [PYTEST ARGUMENTS]: linter, formatter, types, tests; all of them even when one fails, and a summary at the end.
# Without arguments also the tests of the hot path on its compiled build.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
export PATH=$PWD/.venv/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin

failed=()
step() {
    echo "test: $*"
    "$@" || failed+=("$1 $2")
}

step ruff check .
step ruff format --check .
step mypy --strict
step pytest -q "$@"
# The same tests of the hot path once more, on the compiled build of it.
if [[ $# == 0 ]]; then
    step python scripts/compile.py
    step env PYTHONPATH=build/compiled python -P -c 'import proxy.stack as it; raise SystemExit(it.__file__.endswith(".py"))'
    step pytest -q -o pythonpath="build/compiled ." tests/ladders tests/media tests/sip tests/ng_protocol/test_flat.py \
        tests/proxy --ignore tests/proxy/test_cost.py
fi

if ((${#failed[@]})); then
    printf -v list '%s, ' "${failed[@]}"
    echo "test: FAILED: ${list%, }" >&2
    exit 1
fi
echo "test: passed (ruff check, ruff format, mypy, pytest)"
