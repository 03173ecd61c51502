#!/usr/bin/env bash
# check.sh [PYTEST ARGUMENTS]: linter, formatter, types, tests; all of them even when one fails, and a summary at the end.
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

if ((${#failed[@]})); then
    printf -v list '%s, ' "${failed[@]}"
    echo "test: FAILED: ${list%, }" >&2
    exit 1
fi
echo "test: passed (ruff check, ruff format, mypy, pytest)"
