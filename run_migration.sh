#!/bin/sh
# Migrate VAMS v2.2 data to v2.3, then offer the verification:
#   ./run_migration.sh [config_file] [flags of the migration]
# Finds a Python; guided_run.py does the rest, on every system the same.
set -eu

# The folder of this file, also when called over a symbolic link.
own_folder() {
    file="$1"
    while [ -L "$file" ]; do
        target="$(readlink "$file")"
        case "$target" in
            /*) file="$target" ;;
            *) file="$(dirname "$file")/$target" ;;
        esac
    done
    dirname "$file"
}

fail() {
    printf 'error: %s\n  Fix: %s\n' "$2" "$3" >&2
    exit "$1"
}

main() {
    folder="$(own_folder "$0")"
    [ -f "$folder/guided_run.py" ] ||
        fail 2 "guided_run.py is missing in $(cd "$folder" && pwd)." "keep all files of this tool in one folder."
    # `python` first: an active environment has it on every system.
    for candidate in python python3 py; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 6))' 2>/dev/null; then
            exec "$candidate" "$folder/guided_run.py" migrate "$@"
        fi
    done
    fail 3 "No Python 3.6 or newer was found as python, python3 or py." \
        "install Python 3 and make sure that it is on the PATH."
}

main "$@"
