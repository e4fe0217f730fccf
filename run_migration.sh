#!/usr/bin/env bash
# Migrate VAMS v2.2 data to v2.3, then offer the verification:
#   ./run_migration.sh [config_file] [--yes]
# Finds a Python; guided_run.py does the rest, on every system the same.
set -euo pipefail

# The folder of this file, also when called over a symbolic link.
own_folder() {
    local file="${BASH_SOURCE[0]}" target
    while [ -L "$file" ]; do
        target="$(readlink "$file")"
        case "$target" in
            /*) file="$target" ;;
            *) file="$(dirname "$file")/$target" ;;
        esac
    done
    dirname "$file"
}

main() {
    local folder candidate
    folder="$(own_folder)"
    for candidate in python3 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 6))' 2>/dev/null; then
            exec "$candidate" "$folder/guided_run.py" migrate "$@"
        fi
    done
    echo "error: No Python 3.6 or newer was found as python3 or python." >&2
    echo "  Fix: install Python 3 and make sure that it is on the PATH." >&2
    exit 3
}

main "$@"
