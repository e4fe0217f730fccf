"""The helper scripts, run as an operator runs them, over stubs that note how they were called."""

import errno
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import guided_run

PROJECT = Path(__file__).resolve().parent.parent
MIGRATION = guided_run.MIGRATION
VERIFICATION = guided_run.VERIFICATION

STUB = """
import json, os, sys
name = os.path.basename(__file__)
with open("calls.jsonl", "a") as calls:
    calls.write(json.dumps([name] + sys.argv[1:]) + "\\n")
print("stub " + name)
sys.exit(int(os.environ.get("STATUS_OF_" + os.path.splitext(name)[0].rsplit("_", 1)[1], "0")))
"""

# Stands in for the environment's Python: fast, and it never asks a package index.
FAKE_PYTHON = """#!/bin/sh
if [ "$2" = pip ]; then exit 0; fi
exec "{python}" "$@"
"""

EMBEDDED_STUB = """
import os, subprocess, sys
split = sys.argv.index("--")
print("engine " + " ".join(sys.argv[1:split]))
os.environ["VAMS_LOCAL_ENDPOINT"] = "http://localhost:4321"
sys.exit(subprocess.call(sys.argv[split + 1:]))
"""


class Folder:
    """A copy of the helper scripts beside stubs of the scripts they run."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        for name in (
            "guided_run.py",
            "run_migration.sh",
            "run_test_migration.sh",
            guided_run.DEFAULT_CONFIG,
            guided_run.DEFAULT_TEST_CONFIG,
        ):
            shutil.copy(str(PROJECT / name), str(path))
        (path / "requirements.txt").write_text("# nothing\n")
        (path / MIGRATION).write_text(STUB)
        (path / VERIFICATION).write_text(STUB)
        (path / guided_run.EMBEDDED_DYNAMODB).write_text(EMBEDDED_STUB)
        python = path / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(FAKE_PYTHON.format(python=sys.executable))
        python.chmod(0o755)

    def config(self, name="my config.json", **settings):
        path = self.path / name
        path.write_text(json.dumps({"assets_table_name": "assets", **settings}))
        return path

    def command(self, script, *arguments):
        return [str(self.path / script), *map(str, arguments)]

    def run(self, script, *arguments, cwd=None, **statuses):
        return subprocess.run(
            self.command(script, *arguments),
            cwd=str(cwd or self.path),
            env=environment(**statuses),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            timeout=60,
            check=False,
        )

    @property
    def calls(self):
        """Each call as script and options; --config and --log-file are looked at by themselves."""
        return [(name, without(options)) for name, options in self.full_calls]

    @property
    def full_calls(self):
        path = self.path / "calls.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(name, options) for name, *options in map(json.loads, lines)]


def without(options):
    rest = list(options)
    for flag in ("--config", "--log-file"):
        if flag in rest:
            at = rest.index(flag)
            del rest[at : at + 2]
    return " ".join(rest)


def environment(migration=0, verification=0):
    env = dict(os.environ, STATUS_OF_migration=str(migration), STATUS_OF_verify=str(verification))
    env.pop(guided_run.ENDPOINT_VARIABLE, None)
    env["PATH"] = os.path.dirname(sys.executable) + os.pathsep + env["PATH"]
    return env


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "with a space")


def on_terminal(folder, script, *arguments, answers=(), **statuses):
    """Run on a pseudo-terminal; each answer is typed when its question shows."""
    main_end, terminal = pty.openpty()
    process = subprocess.Popen(
        folder.command(script, *arguments),
        cwd=str(folder.path),
        env=environment(**statuses),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    shown, waiting = "", list(answers)
    try:
        while True:
            try:
                chunk = os.read(main_end, 4096)
            except OSError as error:
                if error.errno != errno.EIO:  # Linux says EIO where others say end of file
                    raise
                chunk = b""
            if not chunk:
                break
            shown += chunk.decode()
            if waiting and shown.endswith("] "):
                os.write(main_end, waiting.pop(0).encode() + b"\n")
        status = process.wait(timeout=60)
    finally:
        os.close(main_end)
        process.kill()
    assert not waiting, f"not asked: {waiting}\n{shown}"
    return status, shown


# --- run_migration -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("migration", "verification", "status", "verified"),
    [
        (0, 0, 0, True),
        (0, 1, 1, True),
        (1, 0, 1, True),
        (1, 3, 1, True),
        (2, 0, 2, False),
        (3, 0, 3, False),
        (130, 0, 130, False),
    ],
)
def test_the_status_is_passed_on(folder, migration, verification, status, verified):
    result = folder.run("run_migration.sh", folder.config(), migration=migration, verification=verification)
    assert result.returncode == status
    assert folder.calls == [(MIGRATION, "")] + [(VERIFICATION, "")] * verified


def test_the_default_configuration_lies_beside_the_script(folder, tmp_path):
    assert folder.run("run_migration.sh", cwd=tmp_path).returncode == 0
    for _, options in folder.full_calls:
        assert options[:2] == ["--config", str(folder.path / guided_run.DEFAULT_CONFIG)]


def test_a_typed_configuration_belongs_to_the_callers_folder(folder, tmp_path):
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    folder.config().rename(elsewhere / "mine.json")
    assert folder.run("run_migration.sh", "mine.json", cwd=elsewhere).returncode == 0
    assert folder.full_calls[0][1][:2] == ["--config", str(elsewhere / "mine.json")]


@pytest.mark.parametrize("script", ["run_migration.sh", "run_test_migration.sh"])
def test_names_that_mean_something_to_a_shell(tmp_path, script):
    odd = "a b; $(touch pwned) `touch pwned` & 'c' \"d\" *"
    folder = Folder(tmp_path / odd)
    config = folder.config(odd + ".json", endpoint_url="http://localhost:8000")
    result = folder.run(script, config)
    assert result.returncode == 0, result.stderr
    assert {options[1] for _, options in folder.full_calls} == {str(config)}
    assert not list(tmp_path.rglob("pwned"))


def test_the_log_is_the_scripts_own_and_has_its_time(folder):
    folder.run("run_migration.sh", folder.config())
    options = folder.full_calls[0][1]
    log = options[options.index("--log-file") + 1]
    assert time.strptime(log, "logs/migration_%Y%m%dT%H%M%SZ.log")
    assert (folder.path / "logs").is_dir()
    assert "--log-file" not in folder.full_calls[1][1]


def test_yes_goes_to_the_migration(folder):
    folder.run("run_migration.sh", folder.config(), "--yes")
    assert folder.calls == [(MIGRATION, "--yes"), (VERIFICATION, "")]


def test_a_dry_run_is_not_verified(folder):
    result = folder.run("run_migration.sh", folder.config(dry_run=True))
    assert folder.calls == [(MIGRATION, "")]
    assert "No verification: dry_run is set" in result.stdout


def test_a_missing_verification_script_is_said(folder):
    (folder.path / VERIFICATION).unlink()
    result = folder.run("run_migration.sh", folder.config())
    assert result.returncode == 0
    assert f"No verification: {VERIFICATION} is not in" in result.stdout


@pytest.mark.parametrize(("answer", "verified"), [("", True), ("y", True), ("n", False)])
def test_a_terminal_is_asked_about_the_verification(folder, answer, verified):
    status, shown = on_terminal(folder, "run_migration.sh", folder.config(), answers=[answer])
    assert status == 0
    assert "Verify the result now? [Y/n]" in shown
    assert folder.calls == [(MIGRATION, "")] + [(VERIFICATION, "")] * verified


def test_an_answer_that_is_neither_is_asked_again(folder):
    on_terminal(folder, "run_migration.sh", folder.config(), answers=["maybe", "n"])
    assert folder.calls == [(MIGRATION, "")]


def test_yes_asks_nothing_on_a_terminal(folder):
    status, shown = on_terminal(folder, "run_migration.sh", folder.config(), "--yes")
    assert status == 0
    assert "[Y/n]" not in shown
    assert folder.calls == [(MIGRATION, "--yes"), (VERIFICATION, "")]


def test_end_of_input_at_a_question_stops(folder):
    status, _ = on_terminal(folder, "run_migration.sh", folder.config(), answers=["\x04"])
    assert status == 130
    assert folder.calls == [(MIGRATION, "")]


# --- run_test_migration --------------------------------------------------------------------

DRY, REAL = "--dry-run --limit 5", "--no-dry-run --yes --limit 5"


def test_not_on_a_terminal_nothing_in_aws_is_migrated_unasked(folder):
    result = folder.run("run_test_migration.sh", folder.config(), "5")
    assert result.returncode == 0
    assert folder.calls == [(MIGRATION, DRY)]
    assert "give --yes" in result.stdout


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [({}, ["--yes"]), ({"endpoint_url": "http://127.0.0.1:8000", "dry_run": True}, [])],
)
def test_yes_or_a_local_endpoint_migrates_the_subset(folder, settings, arguments):
    result = folder.run("run_test_migration.sh", folder.config(**settings), "5", *arguments)
    assert result.returncode == 0
    assert folder.calls == [(MIGRATION, DRY), (MIGRATION, REAL), (VERIFICATION, "--limit 5")]


def test_the_limit_is_ten_by_default(folder):
    folder.run("run_test_migration.sh", folder.config(), "--yes")
    assert [options.split()[-1] for _, options in folder.calls] == ["10", "10", "10"]


@pytest.mark.parametrize(("answers", "steps"), [([""], 1), (["n"], 1), (["y", "n"], 2), (["y", ""], 3)])
def test_a_terminal_is_asked_before_the_real_migration(folder, answers, steps):
    config = folder.config(endpoint_url="http://localhost:8000")
    status, shown = on_terminal(folder, "run_test_migration.sh", config, "5", answers=answers)
    assert status == 0
    assert "Migrate these 5 assets of assets now? [y/N]" in shown
    every_step = [(MIGRATION, DRY), (MIGRATION, REAL), (VERIFICATION, "--limit 5")]
    assert folder.calls == every_step[:steps]


@pytest.mark.parametrize("migration", [2, 3, 130])
def test_a_dry_run_that_cannot_work_ends_the_rehearsal(folder, migration):
    result = folder.run("run_test_migration.sh", folder.config(), "--yes", migration=migration)
    assert result.returncode == migration
    assert len(folder.calls) == 1


def test_failed_assets_do_not_end_the_rehearsal_but_show_in_its_status(folder):
    result = folder.run("run_test_migration.sh", folder.config(), "--yes", migration=1)
    assert result.returncode == 1
    assert len(folder.calls) == 3


def test_without_arguments_everything_runs_on_the_embedded_engine(folder):
    result = folder.run("run_test_migration.sh")
    assert result.returncode == 0, result.stderr
    assert "engine --assets 200" in result.stdout
    local = "--endpoint-url http://localhost:4321"
    assert folder.calls == [
        (MIGRATION, f"{local} --dry-run --limit 10"),
        (MIGRATION, f"{local} --no-dry-run --yes --limit 10"),
        (VERIFICATION, f"{local} --limit 10"),
        (MIGRATION, f"{local} --no-dry-run --yes"),
        (VERIFICATION, local),
        (MIGRATION, f"{local} --no-dry-run --yes"),
    ]


def test_the_embedded_rehearsal_asks_nothing_on_a_terminal(folder):
    status, shown = on_terminal(folder, "run_test_migration.sh")
    assert status == 0, shown
    assert len(folder.calls) == 6


def test_a_test_configuration_changed_to_aws_is_not_rehearsed_on_the_embedded_engine(folder):
    folder.config(guided_run.DEFAULT_TEST_CONFIG, dry_run=True)
    result = folder.run("run_test_migration.sh")
    assert "engine" not in result.stdout
    assert folder.calls == [(MIGRATION, "--dry-run --limit 10")]


# --- What is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("run_migration.sh", ["missing.json"], "missing.json was not found"),
        ("run_migration.sh", ["."], "was not found"),
        ("run_migration.sh", [guided_run.DEFAULT_CONFIG, "10"], "unrecognized arguments: 10"),
        ("run_migration.sh", ["--ye"], "unrecognized arguments: --ye"),
        ("run_test_migration.sh", ["10"], "10 was not found"),
        ("run_test_migration.sh", [guided_run.DEFAULT_CONFIG, "ten"], "'ten' is not a whole"),
        ("run_test_migration.sh", [guided_run.DEFAULT_CONFIG, "0"], "'0' is not a whole"),
        ("run_test_migration.sh", [guided_run.DEFAULT_CONFIG, "-3"], "'-3' is not a whole"),
        ("run_test_migration.sh", [guided_run.DEFAULT_CONFIG, "3", "4"], "arguments: 4"),
    ],
)
def test_wrong_usage_names_a_remedy(folder, script, arguments, said):
    result = folder.run(script, *arguments)
    assert result.returncode == 2
    assert said in result.stderr
    assert "\n  Fix: " in result.stderr
    assert folder.calls == []


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_configuration_that_is_not_json_is_refused(folder, text):
    path = folder.path / "bad.json"
    path.write_bytes(text.encode("latin-1"))
    result = folder.run("run_migration.sh", path)
    assert result.returncode == 2
    assert "Fix: " in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("script", ["run_migration.sh", "run_test_migration.sh"])
def test_help(folder, script):
    result = folder.run(script, "--help")
    assert result.returncode == 0
    assert f"usage: {script[:-3]} " in result.stdout


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        ("http://localhost:8000", True),
        ("http://LOCALHOST:8000", True),
        ("http://127.0.0.1:8000", True),
        ("http://127.8.9.1", True),
        ("http://[::1]:8000", True),
        ("http://localhost.example.com", False),
        ("http://localhost@example.com", False),
        ("http://10.0.0.1:8000", False),
        ("http://[::1", False),
        ("localhost:8000", False),
        ("", False),
        (None, False),
        (8000, False),
    ],
)
def test_which_endpoints_are_local(endpoint, local):
    assert guided_run.is_local(endpoint) is local


# --- Where it is called from, and how it is stopped ------------------------------------------


def test_a_call_over_a_symbolic_link(folder, tmp_path):
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "first").symlink_to(folder.path / "run_migration.sh")
    (bin_folder / "migrate").symlink_to("first")
    config = folder.config()
    result = subprocess.run(
        ["./migrate", str(config)],
        cwd=str(bin_folder),
        env=environment(),
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0
    assert len(folder.calls) == 2


@pytest.mark.parametrize(("number", "whom"), [(signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill)])
def test_a_signal_waits_for_the_migration_and_keeps_its_status(folder, number, whom):
    (folder.path / MIGRATION).write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        "try:\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(30)\n"
        "except KeyboardInterrupt:\n"
        "    time.sleep(1)\n"
        "    print('finished the writes', flush=True)\n"
        "    sys.exit(130)\n"
    )
    process = subprocess.Popen(
        folder.command("run_migration.sh", folder.config()),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        universal_newlines=True,
        start_new_session=True,
    )
    shown = ""
    while "ready" not in shown:
        shown += process.stdout.readline()
    whom(process.pid, number)
    rest, _ = process.communicate(timeout=60)
    assert "finished the writes" in rest
    assert process.returncode == 130
    assert folder.calls == []


def test_no_python_at_all(folder, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("bash", "dirname", "readlink"):
        (tools / tool).symlink_to(shutil.which(tool))
    python = tools / "python"
    python.write_text("#!/bin/sh\nexit 1\n")  # as a Python 2 answers
    python.chmod(0o755)
    result = subprocess.run(
        folder.command("run_migration.sh"),
        env={"PATH": str(tools)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 3
    assert "Fix: install Python 3" in result.stderr


# --- The environment -----------------------------------------------------------------------


def test_the_environment_is_made_kept_and_made_again_when_broken(folder):
    shutil.rmtree(str(folder.path / ".venv"))
    config = folder.config()

    first = folder.run("run_migration.sh", config)
    assert first.returncode == 0, first.stderr
    assert "Making " in first.stdout

    assert "Making " not in folder.run("run_migration.sh", config).stdout

    python = folder.path / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/no/such/python")  # as after an upgrade of the system's Python
    again = folder.run("run_migration.sh", config)
    assert again.returncode == 0, again.stderr
    assert "Making " in again.stdout
    assert len(folder.calls) == 6


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ("#!/bin/sh\nif [ $2 = pip ]; then echo no index >&2; exit 1; fi\n", "pip could not"),
        (None, "could not make the virtual environment"),
    ],
)
def test_an_environment_that_cannot_be_made_names_a_remedy(folder, python, said):
    if python:
        (folder.path / ".venv" / "bin" / "python").write_text(python)
    else:
        shutil.rmtree(str(folder.path / ".venv"))
        (folder.path / ".venv").write_text("a file in the way")
    result = folder.run("run_migration.sh", folder.config())
    assert result.returncode == 3
    assert said in result.stderr
    assert "Fix: see" in result.stderr
    assert folder.calls == []


# --- The two shells stay alike -------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["sh", "ps1"])
def test_the_two_helper_scripts_differ_in_their_words_only(suffix):
    def code(name):
        text = (PROJECT / f"{name}.{suffix}").read_text()
        body = text[text.index("own_folder" if suffix == "sh" else "[CmdletBinding()]") :]
        return body.replace("migrate", "COMMAND").replace("rehearse", "COMMAND")

    assert code("run_migration") == code("run_test_migration")


@pytest.mark.parametrize(("name", "command"), [("run_migration", "migrate"), ("run_test_migration", "rehearse")])
def test_both_shells_hand_over_alike(name, command):
    assert f'guided_run.py" {command} "$@"' in (PROJECT / f"{name}.sh").read_text()
    powershell = (PROJECT / f"{name}.ps1").read_text()
    assert f"'guided_run.py'), '{command}')" in powershell
    for switch in ("Yes", "Help"):
        assert f"if (${switch}) {{ $guided += '--{switch.lower()}' }}" in powershell


@pytest.mark.parametrize("name", ["run_migration", "run_test_migration"])
def test_powershell_parses_and_is_plain_ascii(name):
    # There is no PowerShell for every machine; a grammar at least finds what cannot be parsed.
    tree_sitter = pytest.importorskip("tree_sitter")
    grammar = pytest.importorskip("tree_sitter_powershell")
    source = (PROJECT / f"{name}.ps1").read_bytes()
    source.decode("ascii")  # 5.1 reads a file without a byte order mark in the system's code page
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
    assert not parser.parse(source).root_node.has_error
