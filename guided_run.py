#!/usr/bin/env python3
"""The steps behind run_migration and run_test_migration, the same on every system.

run_migration.sh and .ps1 call `guided_run.py migrate`, run_test_migration.sh and .ps1
`guided_run.py rehearse`: they find a Python and leave the rest to this file.

    environment -> migration -> question -> verification

Questions are asked only on a terminal. The scripts run in this folder, so that logs,
reports and backups are always found beside them, wherever the command was typed.

Exit status: that of the first step that did not end well, else 0. The scripts' own meanings
hold: 1 some assets failed, 2 wrong usage or settings, 3 not ready to start, 130 interrupted.
"""

import argparse
import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

FOLDER = Path(__file__).resolve().parent
ENVIRONMENT = FOLDER / ".venv"
REQUIREMENTS = FOLDER / "requirements.txt"

MIGRATION = "v2.2_to_v2.3_migration.py"
VERIFICATION = "v2.2_to_v2.3_migration_verify.py"
EMBEDDED_DYNAMODB = "local_dynamodb.py"

DEFAULT_CONFIG = "v2.2_to_v2.3_migration_config.json"
DEFAULT_TEST_CONFIG = "v2.2_to_v2.3_migration_test_config.json"
DEFAULT_LIMIT = 10
SAMPLE_ASSETS = 200
# local_dynamodb.py sets it for the command it runs.
ENDPOINT_VARIABLE = "VAMS_LOCAL_ENDPOINT"

EXIT_OK = 0
EXIT_SOME_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_READY = 3
EXIT_INTERRUPTED = 130


class GuideError(Exception):
    """What went wrong, what the operator can do about it, and the exit status."""

    def __init__(self, cause, fix, status):
        super().__init__(f"{cause}\n  Fix: {fix}")
        self.status = status


# --- Environment ---------------------------------------------------------------------------


def prepare_environment():
    """Return the Python of .venv, made or completed first where needed."""
    python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not _succeeds([str(python), "-c", "import pip"]):
        say(f"Making {ENVIRONMENT} (only once).")
        if subprocess.call([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)]) != 0:
            raise GuideError(
                f"{sys.executable} could not make the virtual environment {ENVIRONMENT}.",
                "see the message above. On Debian and Ubuntu `apt install python3-venv` adds "
                "what is missing; the folder must be writable.",
                EXIT_NOT_READY,
            )
    # pip asks no index when everything is there already, so this also works without a network.
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.call([*install, "--requirement", str(REQUIREMENTS)]) != 0:
        raise GuideError(
            f"pip could not install {REQUIREMENTS.name} into {ENVIRONMENT}.",
            "see pip's message above. Behind a proxy set HTTPS_PROXY; with a package index of "
            "your own set PIP_INDEX_URL.",
            EXIT_NOT_READY,
        )
    return str(python)


def _succeeds(command):
    try:
        return subprocess.call(command, stderr=subprocess.DEVNULL) == 0
    except OSError:  # not there, or an environment whose interpreter was removed
        return False


# --- Configuration -------------------------------------------------------------------------


def find_config(typed, default):
    """A typed name belongs to the caller's folder, the default to this one."""
    path = Path(typed).absolute() if typed is not None else FOLDER / default
    if not path.is_file():
        raise GuideError(
            f"The configuration file {path} was not found.",
            f"copy {FOLDER / DEFAULT_CONFIG}, fill in your values and name the copy.",
            EXIT_USAGE,
        )
    return path


def read_config(path):
    """The few settings that decide the steps; the migration itself checks the file."""
    try:
        config = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise GuideError(f"{path} could not be read as JSON: {error}.", "correct the file.", EXIT_USAGE)
    if not isinstance(config, dict):
        raise GuideError(
            f"{path} does not hold a JSON object.",
            f"write it like {DEFAULT_CONFIG}.",
            EXIT_USAGE,
        )
    return config


def is_local(endpoint):
    """True only where the endpoint surely is this machine."""
    try:
        host = urlsplit(endpoint or "").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except (TypeError, ValueError, AttributeError):
        return False


# --- Steps ---------------------------------------------------------------------------------


class Steps:
    """Runs the scripts with one Python and one configuration, and keeps the first bad status."""

    def __init__(self, python, config, endpoint=None):
        self.python = python
        self.shared = ["--config", str(config)]
        if endpoint:
            self.shared += ["--endpoint-url", endpoint]
        self.status = EXIT_OK

    def migrate(self, *options):
        (FOLDER / "logs").mkdir(exist_ok=True)
        log = time.strftime("logs/migration_%Y%m%dT%H%M%SZ.log", time.gmtime())
        self._run(MIGRATION, *options, "--log-file", log)

    def verify(self, *options):
        self._run(VERIFICATION, *options)

    def _run(self, script, *options):
        status = run([self.python, script, *self.shared, *options])
        self.status = self.status or status
        # Assets that failed are in the report and do not hold up the others; all else does.
        if status not in (EXIT_OK, EXIT_SOME_FAILED):
            raise SystemExit(self.status)


def run(command):
    """Run a command in this folder to its end and return its exit status."""
    # Ctrl-C reaches the command as well; it finishes the writes under way, and we wait for it.
    interrupt = signal.signal(signal.SIGINT, lambda *_: None)
    process = subprocess.Popen(command, cwd=str(FOLDER))
    terminate = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        status = process.wait()
    finally:
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, terminate)
    return 128 - status if status < 0 else status


def say(text):
    print(text, flush=True)


def headline(text):
    say(f"\n=== {text} ===")


# --- Questions -----------------------------------------------------------------------------


def wanted(question, options, default, unattended):
    """--yes means yes; a terminal is asked, Enter takes `default`; elsewhere `unattended`."""
    if options.yes:
        return True
    if not sys.stdin.isatty():
        return unattended
    while True:
        answer = input(f"\n{question} {'[Y/n]' if default else '[y/N]'} ").strip().lower()
        if answer in ("", "y", "yes", "n", "no"):
            return default if answer == "" else answer.startswith("y")


def verify_if_wanted(steps, options, *subset):
    if not (FOLDER / VERIFICATION).is_file():
        say(f"\nNo verification: {VERIFICATION} is not in {FOLDER}.")
    elif wanted("Verify the result now?", options, default=True, unattended=True):
        headline("Verification")
        steps.verify(*subset)


# --- What the helper scripts do ------------------------------------------------------------


def migrate(options):
    config = find_config(options.config_file, DEFAULT_CONFIG)
    dry_run = read_config(config).get("dry_run")
    steps = Steps(prepare_environment(), config)

    steps.migrate(*(["--yes"] if options.yes else []))
    if dry_run:
        say(f"\nNo verification: dry_run is set in {config}, so nothing was migrated.")
    else:
        verify_if_wanted(steps, options)
    return steps.status


def rehearse(options):
    config = find_config(options.config_file, DEFAULT_TEST_CONFIG)
    settings = read_config(config)
    local = is_local(settings.get("endpoint_url"))
    python = prepare_environment()
    if options.config_file is None and local:
        return rehearse_embedded(python, config, options)

    steps = Steps(python, config)
    subset = ("--limit", str(options.limit))
    headline(f"Dry run of {options.limit} assets: reads, writes nothing")
    steps.migrate("--dry-run", *subset)

    # The dry run has shown the plan, so this is the only question: the migration gets --yes.
    question = f"Migrate these {options.limit} assets of {settings.get('assets_table_name')} now?"
    if wanted(question, options, default=False, unattended=local):
        headline(f"Migration of these {options.limit} assets")
        steps.migrate("--no-dry-run", "--yes", *subset)
        verify_if_wanted(steps, options, *subset)
    else:
        say("\nNothing was migrated, so there is nothing to verify.")
        say("To migrate these assets, answer y on a terminal or give --yes (-Yes in PowerShell).")
    return steps.status


def rehearse_embedded(python, config, options):
    """The whole migration on a DynamoDB of our own with sample assets; nothing is asked."""
    endpoint = os.environ.get(ENDPOINT_VARIABLE)
    if not is_local(endpoint):
        say("Rehearsal on an embedded DynamoDB with sample assets: no AWS account is used.")
        again = [python, str(FOLDER / "guided_run.py"), "rehearse"]
        return run([python, EMBEDDED_DYNAMODB, "--assets", str(SAMPLE_ASSETS), "--", *again])

    options.yes = True
    steps = Steps(python, config, endpoint)
    subset = ("--limit", str(options.limit))
    headline(f"1 of 4  Dry run of {options.limit} assets: nothing is written")
    steps.migrate("--dry-run", *subset)
    headline(f"2 of 4  The same {options.limit} assets for real, then verified")
    steps.migrate("--no-dry-run", "--yes", *subset)
    verify_if_wanted(steps, options, *subset)
    headline(f"3 of 4  All assets, then verified: the {options.limit} are already migrated")
    steps.migrate("--no-dry-run", "--yes")
    verify_if_wanted(steps, options)
    headline("4 of 4  Once more: a second run finds nothing to write")
    steps.migrate("--no-dry-run", "--yes")
    say(f"\nThe reports, logs and backups of this rehearsal are in {FOLDER}.")
    return steps.status


# --- Command line --------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(EXIT_USAGE, f"error: {message}\n  Fix: {self.prog} --help shows the arguments.\n")


def positive(text):
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def build_parser():
    parser = Parser(description="The steps behind run_migration and run_test_migration.")
    commands = parser.add_subparsers(dest="command")
    commands.required = True

    command = commands.add_parser(
        "migrate",
        prog="run_migration",
        description="Migrate, log to logs/, then offer the verification.",
        allow_abbrev=False,
    )
    command.set_defaults(function=migrate)
    _add_common(command, DEFAULT_CONFIG)

    command = commands.add_parser(
        "rehearse",
        prog="run_test_migration",
        description="Dry run on a few assets, then offer their migration and verification. "
        "Without arguments: a rehearsal on an embedded DynamoDB; no AWS account is used.",
        allow_abbrev=False,
    )
    command.set_defaults(function=rehearse)
    _add_common(command, DEFAULT_TEST_CONFIG)
    command.add_argument(
        "limit",
        nargs="?",
        type=positive,
        default=DEFAULT_LIMIT,
        help=f"number of assets (default: {DEFAULT_LIMIT})",
    )
    return parser


def _add_common(command, default_config):
    command.add_argument("config_file", nargs="?", help=f"default: {default_config}")
    command.add_argument("--yes", action="store_true", help="ask nothing, answer yes (-Yes in PowerShell)")


def main(argv=None):
    try:
        options = build_parser().parse_args(argv)
        return options.function(options)
    except GuideError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    except (KeyboardInterrupt, EOFError):
        print("\nStopped.", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
