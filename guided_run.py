#!/usr/bin/env python3
"""The steps behind run_migration and run_test_migration, the same on every system.

run_migration.sh and .ps1 call `guided_run.py migrate`, run_test_migration.sh and .ps1
`guided_run.py rehearse`: they find a Python and leave the rest to this file.

    arguments -> log -> settings -> a Python with boto3 -> migration -> question -> verification

The scripts run where the command was typed and get the flags that were typed, so a path means
what it means to them, and their files land in the same folders. All write to one log.

Exit status: that of the first step that did not end well, else 0. The scripts' own meanings
hold: 1 some assets failed, 2 wrong usage or settings, 3 not ready to start, 130 interrupted.
"""

import argparse
import contextlib
import ipaddress
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
from urllib.parse import urlsplit

try:
    import local_dynamodb
    from load_migration import load_script, migration
except ModuleNotFoundError as missing:
    if missing.name not in ("local_dynamodb", "load_migration"):
        raise
    sys.stderr.write("error: %s.py is missing.\n  Fix: keep all files of this tool in one folder.\n" % missing.name)
    sys.exit(2)

FOLDER = os.path.dirname(migration.script_path(__file__))
ENVIRONMENT = os.path.join(FOLDER, ".venv")
REQUIREMENTS = os.path.join(FOLDER, "requirements.txt")
FITTING = "import boto3, sys; sys.exit(tuple(map(int, boto3.__version__.split('.')[:2])) < (1, 17))"

MIGRATION = "v2.2_to_v2.3_migration.py"
VERIFICATION = "v2.2_to_v2.3_migration_verify.py"
EMBEDDED_DYNAMODB = "local_dynamodb.py"

DEFAULT_CONFIG = "v2.2_to_v2.3_migration_config.json"
DEFAULT_TEST_CONFIG = "v2.2_to_v2.3_migration_test_config.json"
LOGS = "logs"
DEFAULT_LIMIT = 10
# Of one run, that the next one needs too.
KEPT_FLAGS = ("journal_dir", "report_dir", "batch_size", "workers", "max_write_units", "max_read_units", "repair")
SAMPLE_ASSETS = 200
TYPE_AGAIN = migration.NextStep("\nNext: do what the Fix above says, then type the same command again.", None, {})
# local_dynamodb.py sets it for the command it runs.
ENDPOINT_VARIABLE = "VAMS_LOCAL_ENDPOINT"


# --- Arguments -----------------------------------------------------------------------------


def read_arguments(parser, argv):
    """Return the configuration's path, None without one, and the migration's settings, all as they were typed."""
    typed = migration.parsed(parser, argv)
    if "config" in typed and "count" in typed and typed["count"] is None and (typed["config_file"] or "").isdecimal():
        typed.update(config_file=None, count=int(typed["config_file"]))
    for argument, flag in (("config_file", "config"), ("count", "limit")):
        value = typed.pop(argument, None)
        if value is not None and flag in typed:
            raise migration.SettingsError("Both %s and --%s %s." % (value, flag, typed[flag]), "give one of them.")
        if value is not None:
            typed[flag] = value
    return typed.pop("config", None), typed


def find_config(typed, default):
    """The path of the configuration that was typed, or else of the default one, which lies beside this file."""
    path = os.path.join(FOLDER, default) if typed is None else typed
    if not os.path.isfile(path):
        fix = "copy %s, fill in your values and name the copy." % os.path.join(FOLDER, DEFAULT_CONFIG)
        beside = os.path.join(FOLDER, path)
        if path.isdigit():
            fix = "a number of assets comes after the configuration file; without one give --limit %s." % path
        elif os.path.isfile(beside):
            fix = "paths are relative to the folder where you stand: give %s." % migration.shell_text([beside])
        problem = "is a folder, not a file" if os.path.isdir(path) else "was not found"
        raise migration.SettingsError("The configuration file %s %s." % (shlex.quote(path), problem), fix)
    return path


def known(typed, keys):
    """Those of the typed settings that a script with these keys knows."""
    return {key: value for key, value in typed.items() if key in keys}


def is_local(endpoint):
    """True only where the endpoint surely is this machine."""
    try:
        host = urlsplit(endpoint or "").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except (TypeError, ValueError, AttributeError):
        return False


def answers(endpoint):
    """Whether something listens there."""
    url = urlsplit(endpoint)
    try:
        socket.create_connection((url.hostname, url.port or 80), timeout=2).close()
    except (OSError, ValueError):
        return False
    return True


# --- Log -----------------------------------------------------------------------------------


def new_log():
    """Make a log that no other run has, and return its path."""
    time = migration.utc_now().strftime("%Y%m%dT%H%M%SZ")
    try:
        migration.make_folder(LOGS)
        for number in range(1, 1000):
            path = os.path.join(LOGS, "migration_%s%s.log" % (time, "" if number == 1 else "_%d" % number))
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
                return path
            except FileExistsError:  # another run of this second
                pass
        raise FileExistsError("there are a thousand logs of this second")
    except OSError as error:
        raise migration.PreflightError(
            "No log can be written in %s: %s." % (os.path.abspath(LOGS), error.strerror or error),
            "change to a folder where you may write, or give --log-file.",
        )


# --- Environment ---------------------------------------------------------------------------


def find_python():
    """A Python that has boto3: this one, or else that of .venv, which is made or completed where needed."""
    python = os.path.join(ENVIRONMENT, *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")))
    for candidate in (sys.executable, python):
        if _succeeds([candidate, "-c", FITTING]):
            return candidate
    if not _succeeds([python, "-c", "import pip"]):
        migration.announce("Making %s (only once)." % ENVIRONMENT)
        if subprocess.call([sys.executable, "-m", "venv", "--clear", ENVIRONMENT]) != 0:
            raise migration.PreflightError(
                "%s could not make the virtual environment %s." % (sys.executable, ENVIRONMENT),
                "see the message above. On Debian and Ubuntu `apt install python3-venv` adds what is missing; "
                "the folder must be writable.",
            )
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", REQUIREMENTS]
    if subprocess.call(install) != 0 or not _succeeds([python, "-c", FITTING]):
        raise migration.PreflightError(
            "pip could not install %s into %s." % (os.path.basename(REQUIREMENTS), ENVIRONMENT),
            "see pip's message above. Behind a proxy set HTTPS_PROXY; with a package index of your own set "
            "PIP_INDEX_URL. If another Python made that folder, delete it. Or call this with a Python that has boto3.",
        )
    return python


def _succeeds(command):
    try:
        return subprocess.call(command, cwd=FOLDER, stderr=subprocess.DEVNULL) == 0
    except OSError:  # not there, or an environment whose interpreter was removed
        return False


# --- Steps ---------------------------------------------------------------------------------


class Ended(Exception):
    """A step ended so that the next ones make no sense; its argument is the exit status."""


class Steps:
    """Runs the scripts with one Python, configuration and log, and keeps the first bad status."""

    def __init__(self, config, typed, settings, next_step):
        """next_step: the file for what each calls the next step."""
        self.verification = load_script(VERIFICATION)
        self.python = find_python()
        self.config = config
        self.typed = typed
        self.settings = settings
        self.storage = migration.Storage(None, settings)
        called = json.dumps([wrapper_words(), {name: typed[name] for name in KEPT_FLAGS if name in typed}])
        named = {migration.NEXT_VARIABLE: next_step, migration.WRAPPER_VARIABLE: called}
        self.environment = dict(os.environ, **named)
        self.next_step = next_step
        self.status = migration.EXIT_DONE

    def migrate(self, **settings):
        self._run(MIGRATION, dict(self.typed, **settings))
        step = migration.read_next(self.next_step)
        if step and step.script is None:  # nothing of what was named was found, and there is nothing to go on with
            raise Ended(self.status)

    @property
    def may_migrate(self):
        """Whether the dry run that was just made has found something to migrate; unknown counts."""
        step = migration.read_next(self.next_step)
        return step is None or (step.script == MIGRATION and not step.flags.get("dry_run"))

    def verify(self):
        """With a page beside the report, and by the journals of these tables, this run's and earlier ones'."""
        flags = dict(known(self.typed, self.verification.SETTINGS), html=True)
        if has_journals(self.storage, self.settings):
            flags["journal"] = self.settings.journal_dir
        self._run(VERIFICATION, flags)

    def _run(self, script, flags):
        command = [self.python, os.path.join(FOLDER, script), "--config", self.config]
        former = migration.read_next(self.next_step)
        migration.write_next(self.next_step, None)
        signals = []
        status = local_dynamodb.run_command(command + migration.flag_words(flags), self.environment, signals)
        said = migration.read_next(self.next_step)
        if signals and status == migration.EXIT_FAILED_ASSETS and not said:
            status = migration.EXIT_INTERRUPTED  # while Python began, which then knows no better
        self.status = self.status or status
        killed = status > 128 and status != migration.EXIT_INTERRUPTED
        if killed:
            text = "\nerror: %s was killed, by signal %d.\n  Fix: see what did that, such as a lack of memory."
            migration.announce(text % (script, status - 128), sys.stderr)
        stopped = killed or status == migration.EXIT_FAILED_ASSETS and not said  # by an error
        if not said and former and status in (migration.EXIT_USAGE, migration.EXIT_PREFLIGHT):
            former = former._replace(text=former.text.replace("Next: ", "Next: do what the Fix above says, then ", 1))
        if not said:
            migration.write_next(self.next_step, TYPE_AGAIN if stopped else former)
        # Assets that failed are in the report and do not hold up the others; all else does.
        if stopped or status not in (migration.EXIT_DONE, migration.EXIT_FAILED_ASSETS):
            raise Ended(self.status)

    def wants(self, question, default, unattended, interrupted):
        """--yes means yes; a terminal is asked; elsewhere `unattended`. Ctrl-C says `interrupted`."""
        if self.settings.yes:
            return True
        try:
            answer = migration.ask("\n" + question, default)
        except KeyboardInterrupt:
            migration.announce(interrupted, sys.stderr)
            raise Ended(migration.EXIT_INTERRUPTED)
        if answer is None:
            told = "%s Nobody can be asked; it goes on as if the answer were %s."
            migration.announce("\n" + told % (question, "yes" if unattended else "no"))
            return unattended
        return answer

    def offer_verification(self, question="Verify the result now?", default=True, unattended=True):
        if self.wants(question, default, unattended, "Not verified."):
            headline("Verification")
            self.verify()


def has_journals(storage, settings):
    """Whether a journal of these tables lies in the journal folder. The verification skips those of others."""
    ours = migration.journal_header(settings, None, "")
    facts = {name: ours[name] for name in ("assets_table_name", "asset_versions_table_name", "endpoint_url")}
    return any(migration.journals_of(storage, settings.journal_dir, facts))


@contextlib.contextmanager
def one_next_step(shown=True):
    """The file for the next step; what it holds at the end is the last that is shown."""
    descriptor, path = tempfile.mkstemp()
    os.close(descriptor)
    migration.write_next(path, None)
    try:
        yield path
    except migration.OutputClosed:
        migration.divert_output()
        raise
    finally:
        step = migration.read_next(path)
        for name in (path, path + ".new"):  # the latter where a step was ended while it wrote
            with contextlib.suppress(FileNotFoundError):
                os.remove(name)
        if step and shown:
            migration.insist(step.text)


def headline(text):
    migration.announce("\n=== %s ===" % text)


# --- What the helper scripts do ------------------------------------------------------------


def migrate(config, typed, settings):
    with one_next_step() as next_step:
        steps = Steps(config, typed, settings, next_step)
        steps.migrate()
        if settings.dry_run:
            migration.announce("\nNo verification: this was a dry run, so nothing was migrated.")
        else:
            steps.offer_verification()
        return steps.status


def rehearse(config, typed, settings):
    with one_next_step() as next_step:
        return look_then_migrate(config, typed, settings, next_step)


def look_then_migrate(config, typed, settings, next_step):
    typed.setdefault("limit", DEFAULT_LIMIT)
    limit, only_look = typed["limit"], typed.get("dry_run", False)
    steps = Steps(config, typed, settings, next_step)
    these = "this asset" if limit == 1 else "these %d assets" % limit
    headline("Dry run of %s: reads, writes nothing" % migration.counted(limit, "asset"))
    steps.migrate(dry_run=True)
    if only_look:
        return steps.status

    # The dry run has shown the plan, so this is the only question: the migration gets --yes.
    question = "Migrate %s of %s now?" % (these, settings.assets_table_name)
    if not steps.may_migrate:
        migration.announce("\nNothing to migrate: what was looked at is migrated already, or would fail.")
    elif steps.wants(question, False, is_local(settings.endpoint_url), "Nothing was written."):
        headline("Migration of %s" % these)
        steps.migrate(dry_run=False, yes=True)
    else:
        migration.announce("\nNothing was migrated. To migrate %s, run this again and answer y, or give --yes." % these)
        question = "Verify %s all the same? It says what is migrated already." % these
        steps.offer_verification(question, default=False, unattended=False)
        return steps.status
    steps.offer_verification()
    step = migration.read_next(next_step)
    # A step in words alone leads elsewhere: to the right table.
    if steps.status == migration.EXIT_DONE and (step is None or step.script):
        flags = for_all(typed, settings)
        unless = migration.unless_configured({"config": config})
        text = "\nNext: migrate all of them%s:\n%s" % (unless, wrapper_command(config, flags))
        migration.write_next(next_step, migration.NextStep(text, MIGRATION, flags))
    return steps.status


def for_all(typed, settings):
    """The flags of a rehearsal, for the migration of all assets."""
    own = (*migration.CHOOSING, "dry_run", "log_file", "yes")
    flags = {name: value for name, value in typed.items() if name not in own}
    return dict(flags, dry_run=False) if settings.dry_run or "dry_run" in typed else flags


def wrapper_words():
    """How run_migration is called from where the operator stands."""
    if os.name == "nt" and "MSYSTEM" not in os.environ:  # works under every execution policy
        return [migration.python_name(), os.path.join(FOLDER, os.path.basename(__file__)), "migrate"]
    script = os.path.join("." if os.getcwd() == FOLDER else FOLDER, "run_migration.sh")
    return [script.replace("\\", "/")]


def wrapper_command(config, flags):
    return migration.shell_text([*wrapper_words(), config, *migration.flag_words(flags)])


def rehearse_on_embedded(argv, log):
    """Call this again as a command of the embedded DynamoDB."""
    migration.announce("Rehearsal on an embedded DynamoDB of its own with sample assets: no AWS account is used.")
    engine = [os.path.join(FOLDER, EMBEDDED_DYNAMODB), "--assets", str(SAMPLE_ASSETS), "--"]
    return call_again("rehearse", argv, log, engine)


def needs_another_python(settings):
    """Whether this one has no boto3, and journals or reports are in S3: the steps look there themselves."""
    in_s3 = migration.is_s3(settings.journal_dir) or migration.is_s3(settings.report_dir)
    return in_s3 and find_python() != sys.executable


def call_again(command, argv, log, under=()):
    """Call this again with the Python that has boto3, as a command of a script where one is given."""
    python = find_python()
    again = [python, os.path.abspath(__file__), command, *argv, "--log-file", log]
    return local_dynamodb.run_command([python, *under, *again] if under else again)


def rehearse_on_samples(config, typed, settings):
    """The whole migration on a DynamoDB of our own with sample assets, and what it came to; nothing is asked."""
    try:
        # What a step calls the next command would want an engine that has ended by then.
        with one_next_step(shown=False) as next_step:
            status = migrate_samples(config, typed, settings, next_step)
    except Ended as ended:
        status = ended.args[0]
    if status == migration.EXIT_DONE:
        migration.announce(
            "\nREHEARSAL PASSED: all steps ended well. Reports, logs and journals are in %s.\n"
            "Next: copy %s to my_config.json, fill in your values, then look at your own tables:\n%s"
            % (
                os.getcwd(),
                migration.shell_text([os.path.join(FOLDER, DEFAULT_CONFIG)]),
                wrapper_command("my_config.json", {"dry_run": True}),
            )
        )
    elif status != migration.EXIT_INTERRUPTED:
        log = settings.log_file
        migration.announce("\nREHEARSAL FAILED with status %d: see above, or %s." % (status, log))
    return status


def migrate_samples(config, typed, settings, next_step):
    limit = typed.pop("limit", DEFAULT_LIMIT)
    # In folders of their own, so that no journal of samples lies among those of the tables in AWS.
    folders = {name: getattr(settings, name).rstrip("/") + "/rehearsal" for name in ("journal_dir", "report_dir")}
    own = {"endpoint_url": os.environ[ENDPOINT_VARIABLE], "yes": True, **folders}
    typed.update(own)
    everything = Steps(config, typed, settings._replace(**own), next_step)
    few = Steps(config, dict(typed, limit=limit), settings._replace(**own), next_step)
    headline("1 of 4  Dry run of %d assets: nothing is written" % limit)
    few.migrate(dry_run=True)
    headline("2 of 4  The same %d assets for real, then verified" % limit)
    few.migrate(dry_run=False)
    few.offer_verification()
    headline("3 of 4  All assets, then verified: the %d are already migrated" % limit)
    everything.migrate(dry_run=False)
    everything.offer_verification()
    headline("4 of 4  Once more: a second run finds nothing to write")
    everything.migrate(dry_run=False)
    return few.status or everything.status


def is_of_embedded(settings):
    """Whether these are the tables that only the embedded DynamoDB has."""
    names = settings.assets_table_name, settings.asset_versions_table_name
    own = local_dynamodb.ASSETS_TABLE, local_dynamodb.ASSET_VERSIONS_TABLE
    return names == own and is_local(settings.endpoint_url)


# --- Command line --------------------------------------------------------------------------


def run_migration(argv):
    parser = make_parser(
        "run_migration [config_file] [flags]",
        "Migrate, log to logs/, then offer the verification.",
        DEFAULT_CONFIG,
        ("run_migration my_config.json", "run_migration my_config.json --database-id db01 --yes"),
    )
    config, typed = read_arguments(parser, argv)
    log = start_log(typed)
    config, settings = read_settings(config, DEFAULT_CONFIG, typed)
    if needs_another_python(settings):
        return call_again("migrate", argv, log)
    return migrate(config, typed, settings)


def run_test_migration(argv):
    parser = make_parser(
        "run_test_migration [config_file] [limit] [flags]",
        "Dry run of a few assets, then offer their migration and verification.\n"
        "Without arguments: a rehearsal on an embedded DynamoDB with sample assets; no AWS account is used.",
        DEFAULT_TEST_CONFIG,
        ("run_test_migration", "run_test_migration my_config.json 25"),
    )
    parser.add_argument("count", metavar="limit", nargs="?", default=None, type=positive, help="assets (default: 10)")
    config_typed, typed = read_arguments(parser, argv)
    if typed.get("limit") == 0:
        raise migration.SettingsError("--limit 0 looks at no asset.", "give 1 or more.")
    log = start_log(typed)
    config, settings = read_settings(config_typed, DEFAULT_TEST_CONFIG, typed)
    if is_of_embedded(settings):
        if ENDPOINT_VARIABLE in os.environ:
            return rehearse_on_samples(config, typed, settings)
        as_shipped = config_typed is None and settings.endpoint_url == "http://localhost:%d" % local_dynamodb.SERVE_PORT
        if as_shipped or not answers(settings.endpoint_url):
            return rehearse_on_embedded(argv, log)
    if needs_another_python(settings):
        return call_again("rehearse", argv, log)
    return rehearse(config, typed, settings)


def make_parser(usage, description, default_config, examples):
    """The migration's own parser, for its flags are passed on, with a configuration as an argument."""
    parser = migration.make_parser(description + "\nAll flags of the migration are passed on.", migration.SETTINGS)
    parser.prog, parser.usage = usage.split()[0], usage
    parser.epilog = "\n  ".join(("examples:", *examples))
    parser.add_argument("config_file", nargs="?", default=None, help="default: %s" % default_config)
    return parser


def positive(text):
    if text.endswith(".json"):
        raise argparse.ArgumentTypeError("%r comes first, then the number of assets" % text)
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError("%r is not a whole number from 1 up" % text)
    return int(text)


def start_log(typed):
    """From here on everything is logged, into one file for all steps. Returns its path."""
    log = typed["log_file"] = typed.get("log_file") or new_log()
    migration.configure_logging("INFO", log)
    return log


def read_settings(config, default_config, typed):
    """The configuration's path, and the settings as the migration will see them."""
    path = find_config(config, default_config)
    return path, migration.read_settings(path, typed)[0]


COMMANDS = {"migrate": run_migration, "rehearse": run_test_migration}
USAGE = """usage: guided_run.py migrate [config_file] [flags]             as run_migration does
       guided_run.py rehearse [config_file] [limit] [flags]    as run_test_migration does

`guided_run.py migrate --help` and `guided_run.py rehearse --help` list the flags."""


def guide(argv):
    if argv[:1] in (["--help"], ["-h"]):
        migration.announce(USAGE)
        return migration.EXIT_DONE
    if argv[:1] == [] or argv[0] not in COMMANDS:
        raise migration.SettingsError(
            "%s needs %s first." % (os.path.basename(__file__), " or ".join(COMMANDS)),
            "use run_migration or run_test_migration, which do that.",
        )
    try:
        return COMMANDS[argv[0]](argv[1:])
    except Ended as ended:
        return ended.args[0]


def main(argv=None):
    return migration.guarded(guide, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    migration.leave(main())
