"""The scripts that an operator runs still load on Python 3.6."""

import glob
import os
import shutil
import subprocess

import pytest

import load_migration

FOLDER = load_migration.HERE
SCRIPTS = sorted(os.path.basename(path) for path in glob.glob(os.path.join(FOLDER, "*.py")))


def python36():
    """A working Python 3.6, or None. Shims of pyenv exist for versions that are not active."""
    candidates = sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/3.6*/bin/python"))) + [
        shutil.which("python3.6")
    ]
    for candidate in filter(None, candidates):
        done = subprocess.run(
            [candidate, "-c", "import sys; print(sys.version_info[:2])"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        if done.stdout.split() == [b"(3,", b"6)"]:
            return candidate
    return None


PYTHON = python36()


@pytest.mark.skipif(PYTHON is None, reason="no Python 3.6 on this machine")
@pytest.mark.parametrize("script", SCRIPTS)
def test_loads(script):
    # As a module of another name, so that nothing runs; without writing bytecode beside it.
    code = "import load_migration; load_migration.load_script(%r)" % script
    done = subprocess.run(
        [PYTHON, "-B", "-W", "error", "-c", code], cwd=FOLDER, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert (done.returncode, done.stdout) == (0, b"")


@pytest.mark.skipif(PYTHON is None, reason="no Python 3.6 on this machine")
def test_settings_and_a_plan(tmp_path):
    code = (
        "from load_migration import migration as m\n"
        "s = lambda t: {'S': t}\n"
        "current = {'M': {'Version': s('3'), 'DateModified': s('June 24 2025 - 17:59:56')}}\n"
        "plan = m.plan_asset({'databaseId': s('d'), 'assetId': s('a'), 'currentVersion': current}, 'b', 'now')\n"
        "print(plan.outcome, plan.record['dateCreated']['S'], m.main(['--workers', '0']))\n"
    )
    environment = dict(os.environ, PYTHONPATH=FOLDER)
    done = subprocess.run(
        [PYTHON, "-B", "-c", code], cwd=str(tmp_path), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert done.stdout.decode().split() == ["migrated", "2025-06-24T17:59:56Z", "2"], done.stderr.decode()
    assert done.stderr.decode().startswith("error: workers")
