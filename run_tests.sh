#!/usr/bin/env bash
# Run the tests; arguments go to pytest: ./run_tests.sh -k wrappers
# The environment is made in .venv-dev from requirements-dev.txt. PYTHON names another interpreter.
set -euo pipefail

main() {
    cd "$(dirname "${BASH_SOURCE[0]}")"
    if ! .venv-dev/bin/python -m pip --version >/dev/null 2>&1; then
        "${PYTHON:-python3}" -m venv --clear .venv-dev
    fi
    .venv-dev/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
    # More processes than cores, for many tests wait. `-n 0` among the arguments runs all in one.
    exec .venv-dev/bin/python -m pytest -n 4 --dist worksteal "$@"
}

main "$@"
