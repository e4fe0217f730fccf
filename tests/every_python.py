#!/usr/bin/env python3
"""Migrate, prove, roll back and compare on the oldest and the newest Python of this machine.

    python tests/every_python.py

For each of the two Pythons: with the oldest boto3 that the README names for it and with the newest that
pip finds, without tqdm, and with it on a terminal, where it draws. All on one embedded DynamoDB, in tables of
their own. Also: `uv run` by the scripts' inline metadata. Says which Pythons it did not find.

Exit status: 0, or 1 when something failed.
"""

import glob
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from conftest import normal, on_a_terminal  # noqa: E402

import local_dynamodb  # noqa: E402
from load_migration import migration  # noqa: E402
from sample_assets import sample_assets  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCRIPTS = [
    os.path.join(ROOT, "v2.2_to_v2.3_migration%s.py" % part) for part in ("", "_verify", "_rollback", "_test")
]  # fmt: skip
OLDEST_PYTHON = (3, 6)
WANTED = [(3, minor) for minor in range(6, 15)]  # those that exist
ASSETS = 200


def oldest_boto3(python):
    """The README's."""
    return "1.26.0" if python >= (3, 12) else "1.17.0"


def pythons():
    """The interpreters of this machine, by version: pyenv's, and those on the PATH."""
    paths = glob.glob(os.path.expanduser("~/.pyenv/versions/3.*/bin/python"))
    paths += filter(None, (shutil.which("python3.%d" % minor) for minor in range(6, 30)))
    found = {}
    for path in [*paths, sys.executable]:
        code = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
        answer = subprocess.run([path, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if answer.returncode == 0:  # pyenv's shims exist for versions that are not active
            found.setdefault(tuple(map(int, answer.stdout.split())), path)
    return {version: found[version] for version in sorted(found) if version >= OLDEST_PYTHON}


def text_of(version):
    return "%d.%d" % version


class Failed(Exception):
    """What failed, with its output."""


def run(command, folder, environment=None, terminal=False):
    if terminal:
        former = dict(os.environ)
        os.environ.update(environment)
        try:
            status, output = on_a_terminal(command, folder)
        finally:
            os.environ.clear()
            os.environ.update(former)
    else:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        status, output = done.returncode, done.stdout.decode("utf-8", "replace")
    if status:
        raise Failed("%s\nended with status %d:\n%s" % (" ".join(command), status, output))
    return output


def contents(client, *tables):
    return [
        sorted(json.dumps(normal(item), sort_keys=True) for item in local_dynamodb.all_items(client, table))
        for table in tables
    ]


def round_trip(python, engine, names, folder, terminal):
    """Migrate, prove by the journal, roll back; at the end everything is as it was, and was otherwise in between."""
    client, environment = engine.client(), dict(engine.environment(), PYTHONDONTWRITEBYTECODE="1")
    local_dynamodb.create_tables(client, *names)
    local_dynamodb.load_items(client, names[0], sample_assets(ASSETS))
    before = contents(client, *names)
    flags = ["--endpoint-url", engine.endpoint_url, "--asset-bucket", "bucket"]
    flags += ["--assets-table", names[0], "--asset-versions-table", names[1]]
    migrate, verify, roll_back, _ = ([python, "-W", "error::DeprecationWarning:__main__", path] for path in SCRIPTS)
    output = run([*migrate, *flags, "--yes"], folder, environment, terminal)
    if terminal != ("/s" in output and "\r" in output):
        raise Failed("A progress bar where none is wanted, or none where one is:\n" + output)
    between = contents(client, *names)
    if between == before or len(between[1]) < ASSETS / 2:
        raise Failed("The migration has changed nothing.")
    (journal,) = glob.glob(os.path.join(folder, "backups", "*.jsonl"))
    output = run([*verify, *flags, "--journal", journal], folder, environment)
    if "VERIFIED" not in output:
        raise Failed("No verdict:\n" + output)
    run([*roll_back, *flags, "--journal", journal, "--yes"], folder, environment)
    if contents(client, *names) != before:
        raise Failed("After the rollback the tables are not as they were.")


def try_python(version, path, boto3, engine, numbers):
    with tempfile.TemporaryDirectory() as folder:
        run([path, "-m", "venv", os.path.join(folder, "venv")], folder)
        python = os.path.join(folder, "venv", "bin", "python")
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if version < (3, 7):
            run(
                [*pip, "--upgrade", "pip<22"], folder
            )  # its own takes the newest of everything, whichever Python that needs
        for extra in (None, "tqdm"):
            run([*pip, extra or ("boto3==" + boto3 if boto3 else "boto3")], folder)
            code = "import boto3; print(boto3.__version__)"
            installed = run([python, "-c", code], folder).split()[-1]
            work = os.path.join(folder, extra or "plain")
            os.mkdir(work)
            number = next(numbers)
            round_trip(python, engine, ("assets-%d" % number, "versions-%d" % number), work, extra is not None)
            name = "tqdm" if extra else "no tqdm"
            print("ok  Python %s, boto3 %s, %s" % (text_of(version), installed, name), flush=True)


def try_uv():
    uv = os.path.join(os.path.dirname(sys.executable), "uv")
    for script in SCRIPTS:
        output = run([uv, "run", "--quiet", script, "--help"], ROOT)
        if "--assets-table" not in output:
            raise Failed(output)
    print("ok  uv run, all four scripts", flush=True)


def main():
    found = pythons()
    print("Not found: %s." % (", ".join(text_of(version) for version in WANTED if version not in found) or "none"))
    chosen = {version: found[version] for version in (min(found), max(found))}
    failures, numbers = 0, itertools.count()
    with local_dynamodb.LocalDynamoDB() as engine:
        checks = [(try_uv,)] + [
            (try_python, version, path, boto3, engine, numbers)
            for version, path in chosen.items()
            for boto3 in (oldest_boto3(version), None)
        ]
        for function, *arguments in checks:
            try:
                function(*arguments)
            except Failed as failure:
                failures += 1
                print("FAILED  %s %s\n%s" % (function.__name__, arguments[:3], failure), flush=True)
    return migration.EXIT_FAILED_ASSETS if failures else migration.EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
