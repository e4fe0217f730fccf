"""The helper scripts: their steps and questions in this process, and as an operator runs them, over stubs."""

import errno
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from v22 import asset

import guided_run
import local_dynamodb
from load_migration import migration

PROJECT = Path(__file__).resolve().parent.parent
MIGRATION = guided_run.MIGRATION
VERIFICATION = guided_run.VERIFICATION
ROLLBACK = "v2.2_to_v2.3_migration_rollback.py"
SCRIPTS = ("run_migration.sh", "run_test_migration.sh")
NEEDED = ("guided_run.py", "load_migration.py", "local_dynamodb.py", "sample_assets.py")
NAMES = {"assets_table_name": "assets", "asset_versions_table_name": "versions", "asset_bucket_name": "bucket"}


def without(options):
    """Options without the configuration, the log and the page, which are looked at by themselves."""
    rest = [option for option in options if not option.startswith("--log-file=") and option != "--html"]
    if "--config" in rest:
        del rest[rest.index("--config") : rest.index("--config") + 2]
    return " ".join(rest)


def joined(options):
    """A flag and its value as one text."""
    whole = []
    for option in options:
        if option.startswith("--"):
            whole.append(option)
        else:
            whole[-1] += "=" + option
    return whole


# --- The steps, in this process ------------------------------------------------------------


@pytest.fixture
def guide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(guided_run.ENDPOINT_VARIABLE, raising=False)
    return Guide(tmp_path, monkeypatch)


def leave_next(environment, *step):
    migration.write_next(environment[migration.NEXT_VARIABLE], migration.NextStep(*step))


class Guide:
    """Runs guided_run; the scripts are noted, not run, and end with `statuses`, status 1 by an error where they are
    among the `stopped`; questions get `answers`, without one nobody can be asked."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self.commands, self.statuses, self.answers, self.questions, self.environments = [], {}, [], [], []
        self.stopped = set()
        monkeypatch.setattr(guided_run, "find_python", lambda: sys.executable)
        monkeypatch.setattr(local_dynamodb, "run_command", self.run_command)
        monkeypatch.setattr(migration, "ask", self.ask)

    def __call__(self, command, *arguments):
        return guided_run.main([command, *map(str, arguments)])

    def config(self, name="my config.json", **settings):
        path = self.folder / name
        path.write_text(json.dumps({**NAMES, **settings}))
        return path

    def run_command(self, command, environment=None, signals=None):
        self.environments.append(environment)
        self.commands.append(command if "--" in command else command[:4] + joined(command[4:]))
        script = os.path.basename(command[1])
        if script in self.stopped:
            return 1
        if self.statuses.get(script) == 1:
            leave_next(environment, "\nNext: mend what failed:\nits command", MIGRATION, {})
        return self.statuses.get(script, 0)

    def ask(self, question, default):
        self.questions.append((question.strip(), default))
        if self.answers and isinstance(self.answers[0], BaseException):
            raise self.answers.pop(0)
        return self.answers.pop(0) if self.answers else None

    @property
    def calls(self):
        return [(os.path.basename(command[1]), without(command[2:])) for command in self.commands]


@pytest.mark.parametrize(
    ("migrated", "verified", "status", "steps"),
    [(0, 0, 0, 2), (0, 1, 1, 2), (1, 0, 1, 2), (1, 3, 1, 2), (2, 0, 2, 1), (3, 0, 3, 1), (130, 0, 130, 1)],
)
def test_the_status_is_passed_on(guide, migrated, verified, status, steps):
    guide.statuses = {MIGRATION: migrated, VERIFICATION: verified}
    assert guide("migrate", guide.config()) == status
    assert guide.calls == [(MIGRATION, ""), (VERIFICATION, "")][:steps]


def test_the_default_configurations_lie_beside_the_script(guide):
    assert guide("migrate", *flags_of(NAMES), "--yes") == 0
    assert guide.commands[0][2:4] == ["--config", str(PROJECT / guided_run.DEFAULT_CONFIG)]
    assert guide("rehearse", *flags_of(NAMES), "--yes") == 0
    assert guide.commands[2][2:4] == ["--config", str(PROJECT / guided_run.DEFAULT_TEST_CONFIG)]


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_the_help_names_both_commands(capsys, flag):
    assert guided_run.main([flag]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("usage: guided_run.py migrate") and "rehearse [config_file] [limit]" in said.out
    assert said.err == ""


def flags_of(names):
    return ["%s=%s" % (migration.SETTINGS[key].flag, value) for key, value in names.items()]


def test_paths_are_those_of_the_folder_where_it_was_typed(guide, monkeypatch):
    guide.config("mine.json")
    assert guide("migrate", "mine.json") == 0
    for command in guide.commands:
        assert os.path.dirname(command[1]) == str(PROJECT)
        assert command[2:4] == ["--config", "mine.json"]


def test_any_flag_of_the_migration_is_passed_on_to_the_scripts_that_know_it(guide):
    flags = ["--limit=7", "--database-id=-a", "--database-id=b", "--journal-dir=a folder", "--report-dir=r", "--yes"]
    assert guide("migrate", guide.config(), *flags) == 0
    (migrated, passed_on), (verified, reading) = guide.calls
    assert set(guide.commands[0][4:]) >= set(flags)
    assert (migrated, verified) == (MIGRATION, VERIFICATION)
    assert reading == "--limit=7 --database-id=-a --database-id=b --report-dir=r"
    # What comes back from the parser is what goes into one.
    again = vars(migration.make_parser("", migration.SETTINGS).parse_args(guide.commands[0][2:]))
    assert again.pop("config") == str(guide.folder / "my config.json")
    assert {key: value for key, value in again.items() if key != "log_file"} == {
        "limit": 7, "database_id": ["-a", "b"], "journal_dir": "a folder", "report_dir": "r", "yes": True
    }  # fmt: skip


def test_every_flag_of_the_migration_comes_back_as_it_was_typed(guide):
    typed = []
    for key, setting in migration.SETTINGS.items():
        typed.append(
            setting.flag if setting.kind is bool else "%s=%s" % (setting.flag, 3 if setting.kind is int else key)
        )
    parser = migration.make_parser("", migration.SETTINGS)
    assert joined(migration.flag_words(vars(parser.parse_args(typed)))) == typed


def test_a_configuration_may_be_given_by_its_flag(guide):
    assert guide("migrate", "--config", guide.config()) == 0
    assert guide.commands[0][2:4] == ["--config", str(guide.folder / "my config.json")]


def test_all_steps_write_to_one_log_that_is_this_runs_own(guide):
    config = guide.config()
    guide("rehearse", config, "--yes")
    guide("migrate", config)  # most likely in the same second
    logs = [[option for option in command if option.startswith("--log-file=")] for command in guide.commands]
    assert len({log for (log,) in logs[:3]}) == 1
    assert len({log for (log,) in logs}) == 2
    path = logs[0][0].split("=", 1)[1]
    assert re.match(r"logs/migration_\d{8}T\d{6}Z(_\d)?\.log$", path)
    assert "Migration of these 10 assets" in Path(path).read_text()
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat("logs").st_mode & 0o777 == 0o700
    assert len(os.listdir("logs")) == 2


def test_a_typed_log_is_the_log_of_all_steps(guide):
    assert guide("migrate", guide.config(), "--log-file", "my.log") == 0
    assert ["--log-file=my.log" in command for command in guide.commands] == [True, True]
    assert not os.path.exists("logs")
    assert os.path.exists("my.log")


def test_an_error_in_the_settings_is_in_the_log_too(guide, capsys):
    assert guide("migrate", guide.config(workers=0)) == 2
    (log,) = os.listdir("logs")
    assert "error: workers" in Path("logs", log).read_text()
    assert "error: workers" in capsys.readouterr().err
    assert guide.calls == []


def test_a_folder_in_which_nothing_can_be_written(guide, capsys):
    Path("logs").write_text("a file in the way")
    assert guide("migrate", guide.config()) == 3
    assert "Fix: change to a folder where you may write" in capsys.readouterr().err


def test_the_verification_writes_a_page_beside_its_report(guide):
    guide("migrate", guide.config(), "--report-dir", "our reports")
    assert {"--html", "--report-dir=our reports"} < set(guide.commands[1][4:])


@pytest.mark.parametrize(
    ("changes", "given"),
    [
        ({}, True),
        ({"assets_table_name": "other"}, False),
        ({"asset_versions_table_name": "other"}, False),
        ({"endpoint_url": None}, False),
    ],
)
def test_the_verification_gets_the_journal_folder_if_it_holds_one_of_these_tables(guide, changes, given):
    folder = guide.folder / "the [journals]"
    folder.mkdir()
    settings = resolved(endpoint_url="http://me@localhost:8000")
    facts = {"started": "now", "asset_bucket_name": settings.asset_bucket_name}
    header = {**migration.journal_header(settings, None, "us-east-1"), **facts, **changes}
    migration.Journal(migration.JournalFile(str(folder / "migration.jsonl")), header).close()
    (folder / "text.jsonl").write_text("no journal\n")
    assert guide("migrate", guide.config(endpoint_url="http://me@localhost:8000", journal_dir=str(folder))) == 0
    assert ("--journal=%s" % folder in guide.commands[1]) is given


def resolved(**settings):
    return migration.resolve_settings(migration.CONFIG, {**NAMES, **settings}, {})


def test_a_dry_run_is_not_verified(guide, capsys):
    assert guide("migrate", guide.config(dry_run=True)) == 0
    assert guide("migrate", guide.config(), "--dry-run") == 0
    assert guide.calls == [(MIGRATION, ""), (MIGRATION, "--dry-run")]
    assert capsys.readouterr().out.count("No verification: this was a dry run") == 2


@pytest.mark.parametrize(("answer", "steps"), [(True, 2), (False, 1), (None, 2)])
def test_the_verification_is_a_question(guide, answer, steps):
    guide.answers = [answer]
    assert guide("migrate", guide.config()) == 0
    assert guide.questions == [("Verify the result now?", True)]
    assert guide.calls == [(MIGRATION, ""), (VERIFICATION, "")][:steps]


@pytest.mark.parametrize("answer", [True, False, KeyboardInterrupt()])
def test_the_last_line_is_the_only_next_step(guide, capsys, answer):
    """That of the last step that ran, after all questions and notes."""

    def run_command(command, environment=None, signals=None):
        leave_next(environment, "\nNext:\nafter %s" % os.path.basename(command[1]), MIGRATION, {})
        return 0

    local_dynamodb.run_command = run_command  # of the fixture's patch
    guide.answers = [answer]
    last = VERIFICATION if answer is True else MIGRATION
    assert guide("migrate", guide.config()) == (130 if isinstance(answer, KeyboardInterrupt) else 0)
    assert guide("migrate", guide.config(), "--dry-run") == 0
    said = capsys.readouterr()
    assert said.out == (
        "\n=== Verification ===\n" * (answer is True)
        + "\nNext:\nafter %s\n" % last
        + "\nNo verification: this was a dry run, so nothing was migrated.\n\nNext:\nafter %s\n" % MIGRATION
    )
    guide.answers = [answer, False]
    guide("rehearse", guide.config())
    shown = capsys.readouterr().out
    assert shown.count("Next:") == 1
    assert shown.splitlines()[-1].endswith("/my config.json'" if answer is True else MIGRATION)


def test_what_a_verification_says_of_another_table_is_not_lost_in_a_rehearsal(guide, capsys):
    """All of them are not to be migrated before."""

    def run_command(command, environment=None, signals=None):
        of_verification = os.path.basename(command[1]) == VERIFICATION
        step = ("see first whose it is.", None) if of_verification else ("go on:\nits command", MIGRATION)
        leave_next(environment, "\nNext: %s" % step[0], step[1], {})
        return 0

    local_dynamodb.run_command = run_command  # of the fixture's patch
    for answers, last in (
        ([True, True], "Next: see first whose it is."),
        ([True, False], "Next: migrate all of them:"),
    ):
        guide.answers = answers
        assert guide("rehearse", guide.config()) == 0
        assert last in capsys.readouterr().out.splitlines()[-2:]


def test_the_next_step_is_seen_where_the_reader_is_found_gone_before_the_next_one(guide, monkeypatch, capsys):
    diverted, show = [], migration.show

    def show_but_the_headline(text, stream):
        if "=== Verification" in text:
            raise migration.OutputClosed
        show("%s %s" % (len(diverted), text), stream)

    def run_command(command, environment=None, signals=None):
        leave_next(environment, "Next: verify", VERIFICATION, {})
        return 0

    local_dynamodb.run_command = run_command  # of the fixture's patch
    monkeypatch.setattr(migration, "show", show_but_the_headline)
    monkeypatch.setattr(migration, "divert_output", lambda: diverted.append(True))
    guide.answers = [True]
    assert guide("migrate", guide.config()) == 130
    assert capsys.readouterr().out == "1 Next: verify\n"


def test_yes_asks_nothing(guide):
    assert guide("migrate", guide.config(), "--yes") == 0
    assert guide("migrate", guide.config(yes=True)) == 0
    assert guide.questions == []
    assert guide.calls == [(MIGRATION, "--yes"), (VERIFICATION, ""), (MIGRATION, ""), (VERIFICATION, "")]


# --- run_test_migration --------------------------------------------------------------------

DRY, REAL, VERIFIED = (
    (MIGRATION, "--limit=5 --dry-run"), (MIGRATION, "--limit=5 --no-dry-run --yes"), (VERIFICATION, "--limit=5")
)  # fmt: skip


def test_where_nobody_can_be_asked_nothing_in_aws_is_migrated(guide, capsys):
    assert guide("rehearse", guide.config(), 5) == 0
    assert guide.calls == [DRY]
    assert "give --yes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [({}, ["--yes"]), ({"endpoint_url": "http://127.0.0.1:8000", "dry_run": True}, [])],
)
def test_yes_or_a_local_endpoint_migrates_the_subset(guide, settings, arguments):
    assert guide("rehearse", guide.config(**settings), 5, *arguments) == 0
    flags = [(name, set(options.split()) - {"--yes"}) for name, options in guide.calls]
    assert flags == [(name, set(options.split()) - {"--yes"}) for name, options in (DRY, REAL, VERIFIED)]


def test_the_limit_is_ten_by_default(guide):
    guide("rehearse", guide.config(), "--yes")
    assert ["--limit=10" in options for _, options in guide.calls] == [True] * 3


@pytest.mark.parametrize("limit", [["5"], ["--limit", "5"]])
def test_the_limit_may_be_given_by_its_flag(guide, limit):
    assert guide("rehearse", guide.config(), *limit) == 0
    assert guide.calls == [DRY]


@pytest.mark.parametrize(
    ("answers", "steps"),
    [
        ([False, False], [DRY]),
        ([False, True], [DRY, VERIFIED]),
        ([True, False], [DRY, REAL]),
        ([True, True], [DRY, REAL, VERIFIED]),
    ],
)
def test_one_question_before_the_migration_and_one_after_it_or_instead(guide, capsys, answers, steps):
    guide.answers = list(answers)
    assert guide("rehearse", guide.config(endpoint_url="http://localhost:8000"), 5) == 0
    second = (
        ("Verify the result now?", True)
        if answers[0]
        else (
            "Verify these 5 assets all the same? It says what is migrated already.",
            False,
        )
    )
    assert guide.questions == [("Migrate these 5 assets of assets now?", False), second]
    assert guide.calls == steps
    next_one = "Next: migrate all of them:\n%s/run_migration.sh '%s/my config.json'\n" % (PROJECT, guide.folder)
    assert (next_one in capsys.readouterr().out) is answers[0]


@pytest.mark.parametrize(
    ("configured", "arguments", "flags"),
    [
        ({}, ["--profile", "me", "--workers", "3"], " --profile me --workers 3"),
        ({}, ["--database-id", "a", "--asset-id", "b", "--log-file", "x.log"], ""),
        ({"dry_run": True}, [], " --no-dry-run"),
        ({"dry_run": True}, ["--no-dry-run"], " --no-dry-run"),
    ],
)
def test_the_next_command_migrates_all_with_the_flags_that_were_typed(guide, capsys, configured, arguments, flags):
    assert guide("rehearse", guide.config("my.json", **configured), "--yes", *arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "%s/run_migration.sh %s/my.json%s" % (
        PROJECT,
        guide.folder,
        flags,
    )


def test_the_next_command_works_under_every_execution_policy_on_windows(monkeypatch):
    monkeypatch.setattr(os, "name", "nt")
    monkeypatch.delenv("MSYSTEM", raising=False)
    command = guided_run.wrapper_command("my.json", {})
    assert "guided_run.py" in command and command.endswith("migrate my.json")


@pytest.mark.parametrize(
    "word, quoted",
    [
        (r"C:\Users\me\my.json", r"C:\Users\me\my.json"),
        (r"C:\R&D\my.json", r'"C:\R&D\my.json"'),
        (r"C:\vams(1)\my.json", r'"C:\vams(1)\my.json"'),
        (r"C:\O'Brien\my.json", r'"C:\O\'Brien\my.json"'.replace("\\'", "'")),
        ("price $5 a.pdf", "'price $5 a.pdf'"),
        ("it's $5", "'it''s $5'"),
        ("D:\\my data\\", '"D:\\my data\\\\"'),
    ],
)
def test_a_command_for_powershell(monkeypatch, word, quoted):
    monkeypatch.setattr(os, "name", "nt")
    monkeypatch.delenv("MSYSTEM", raising=False)
    assert migration.shell_text(["python", word]) == "python " + quoted
    assert migration.shell_text([word, "x"]) == ("" if word == quoted else "& ") + quoted + " x"


def test_ctrl_c_at_the_question_says_that_nothing_was_written(guide, capsys):
    guide.answers = [KeyboardInterrupt()]
    assert guide("rehearse", guide.config(), 5) == 130
    assert "Nothing was written." in capsys.readouterr().err
    assert guide.calls == [DRY]


def test_ctrl_c_at_the_question_about_the_verification(guide, capsys):
    guide.answers = [KeyboardInterrupt()]
    assert guide("migrate", guide.config()) == 130
    assert "Not verified." in capsys.readouterr().err


def test_a_rehearsal_with_dry_run_only_looks(guide):
    assert guide("rehearse", guide.config(), 5, "--dry-run", "--yes") == 0
    assert guide.calls == [(MIGRATION, "--dry-run --yes --limit=5")]


@pytest.mark.parametrize("status", [2, 3, 130])
def test_a_dry_run_that_cannot_work_ends_the_rehearsal(guide, status):
    guide.statuses = {MIGRATION: status}
    assert guide("rehearse", guide.config(), "--yes") == status
    assert len(guide.calls) == 1


def test_failed_assets_do_not_end_the_rehearsal_but_show_in_its_status(guide):
    guide.statuses = {MIGRATION: 1}
    assert guide("rehearse", guide.config(), "--yes") == 1
    assert len(guide.calls) == 3


@pytest.mark.parametrize("command", ["migrate", "rehearse"])
def test_a_run_that_an_error_stopped_is_not_verified(guide, capsys, command):
    """What it has not come to would be problems by the page; and what its dry run called the next step is none."""
    config = guide.config()
    write = guide.run_command

    def run_command(command, environment=None, signals=None):
        status = write(command, environment)
        if "--dry-run" in command:
            leave_next(environment, "\nNext: migrate:\nits command", MIGRATION, {})
            return 0
        return status

    local_dynamodb.run_command = run_command  # of the fixture's patch
    guide.stopped = {MIGRATION}
    assert guide(command, config, "--yes") == 1
    assert VERIFICATION not in dict(guide.calls)
    assert capsys.readouterr().out.splitlines()[-1] == guided_run.TYPE_AGAIN.text.strip()


def test_a_step_that_ctrl_c_ended_before_it_began_leaves_what_the_one_before_has_said(guide, capsys):
    """Python then ends with status 1, and there is no `Fix:`."""

    def run_command(command, environment=None, signals=None):
        if command[1].endswith(VERIFICATION):
            signals.append(signal.SIGINT)
            return 1
        leave_next(environment, "\nNext: verify:\nits command", VERIFICATION, {})
        return 0

    local_dynamodb.run_command = run_command  # of the fixture's patch
    assert guide("migrate", guide.config(), "--yes") == 130
    assert capsys.readouterr().out.splitlines()[-1] == "its command"


def test_a_next_step_that_ctrl_c_cut_off_leaves_the_one_before(tmp_path, monkeypatch):
    path = str(tmp_path / "next")
    migration.write_next(path, migration.NextStep("first", None, {}))

    def interrupted(step, file):
        file.write("[")
        raise KeyboardInterrupt

    monkeypatch.setattr(migration.json, "dump", interrupted)
    with pytest.raises(KeyboardInterrupt):
        migration.write_next(path, None)
    assert migration.read_next(path).text == "first"


@pytest.mark.parametrize("status", [2, 3])
def test_a_verification_that_is_refused_is_the_next_step_once_that_is_mended(guide, capsys, status):
    """As where the journal of the migration just before is damaged: the same again would be refused again."""

    def run_command(command, environment=None, signals=None):
        if command[1].endswith(VERIFICATION):
            return status
        leave_next(environment, "\nNext: verify:\nits command", VERIFICATION, {})
        return 0

    local_dynamodb.run_command = run_command  # of the fixture's patch
    assert guide("migrate", guide.config(), "--yes") == status
    assert capsys.readouterr().out.endswith("\nNext: do what the Fix above says, then verify:\nits command\n")


def test_that_a_step_was_killed_is_said_for_it_could_not(guide, capsys):
    guide.statuses = {MIGRATION: 128 + signal.SIGKILL}
    assert guide("migrate", guide.config()) == 128 + signal.SIGKILL
    assert guide.calls == [(MIGRATION, "")]
    said = capsys.readouterr()
    assert said.err.startswith("\nerror: %s was killed, by signal 9.\n  Fix: " % MIGRATION)
    assert said.out.splitlines()[-1] == guided_run.TYPE_AGAIN.text.strip()


@pytest.mark.parametrize("configured", [{}, {"dry_run": True}, {"dry_run": False}])
def test_what_would_be_migrated_is_migrated_after_the_answer_whatever_the_configuration_says(
    tables, monkeypatch, capfd, configured
):
    tables.put(asset("a"), asset("b"))
    config = tables.folder / "my.json"
    config.write_text(json.dumps(configured))
    questions = []
    monkeypatch.setattr(migration, "ask", lambda question, default: questions.append(question.strip()) or True)
    assert guided_run.main(["rehearse", str(config), "1", *tables.flags]) == 0
    assert questions == ["Migrate this asset of %s now?" % tables.assets, "Verify the result now?"]
    assert "VERIFIED: 1 asset and 1 version record read" in capfd.readouterr().out


@pytest.mark.parametrize("choice", [{"limit": 3}, {"database_id": "db01"}, {"comments": "all"}])
def test_what_the_configuration_chooses_is_not_all_of_them(guide, capsys, choice):
    guide.answers = [True, True]
    guide("rehearse", guide.config(endpoint_url="http://localhost:8000", **choice), 5)
    told = "; for that, take what chooses assets out of the configuration" if "comments" not in choice else ""
    assert "\nNext: migrate all of them%s:\n" % told in capsys.readouterr().out


def test_where_nothing_is_left_to_migrate_nobody_is_asked_whether_to(tables, monkeypatch, capfd):
    tables.put(asset("a"), asset("b"))
    config = tables.folder / "my.json"
    config.write_text("{}")
    assert guided_run.main(["migrate", str(config), *tables.flags, "--limit", "1", "--yes"]) == 0
    capfd.readouterr()
    questions = []
    monkeypatch.setattr(migration, "ask", lambda question, default: questions.append(question.strip()))
    assert guided_run.main(["rehearse", str(config), "1", *tables.flags]) == 0
    said = capfd.readouterr().out
    assert questions == ["Verify the result now?"] and "\nNothing to migrate: " in said
    assert said.count("MIGRATION, the tables are changed") == 0 and "VERIFIED: " in said
    assert said.splitlines()[-2] == "Next: migrate all of them:"


@pytest.mark.parametrize("command", ["migrate", "rehearse"])
def test_where_nothing_is_found_nothing_is_asked_and_verified(tables, monkeypatch, capfd, command):
    """A databaseId that was misspelled is no reason to ask whether its assets are to be migrated."""
    tables.put(asset("a"))
    monkeypatch.setattr(migration, "ask", lambda question, default: pytest.fail(question))
    config = tables.folder / "my.json"
    config.write_text("{}")
    assert guided_run.main([command, str(config), *tables.flags, "--database-id", "db1", "--no-dry-run"]) == 1
    said = capfd.readouterr().out
    assert said.count("Preflight:") == 1 and said.endswith("\nNext: give the right names and run it again.\n")


# --- The embedded engine -------------------------------------------------------------------

EMBEDDED = json.loads((PROJECT / guided_run.DEFAULT_TEST_CONFIG).read_text())


def engine_of(guide):
    return [command for command in guide.commands if command[1].endswith("local_dynamodb.py")]


def test_without_arguments_everything_runs_on_the_embedded_engine(guide):
    assert guide("rehearse") == 0
    (command,) = guide.commands
    assert command[:5] == [sys.executable, str(PROJECT / "local_dynamodb.py"), "--assets", "200", "--"]
    assert command[5:8] == [sys.executable, str(PROJECT / "guided_run.py"), "rehearse"]
    assert command[8] == "--log-file"
    assert os.path.isfile(command[9])


@pytest.mark.parametrize("status", [0, 1, 3, 130])
def test_a_rehearsal_ends_with_a_verdict_and_the_next_step(guide, monkeypatch, capsys, status):
    monkeypatch.setenv(guided_run.ENDPOINT_VARIABLE, "http://localhost:4321")
    guide.statuses = {VERIFICATION: status}
    assert guide("rehearse") == status
    said = capsys.readouterr().out
    assert ("REHEARSAL PASSED" in said) is (status == 0)
    assert ("\n%s/run_migration.sh my_config.json --dry-run\n" % PROJECT in said) is (status == 0)
    # What its steps called the next command would want an engine that is gone when it has ended.
    assert "mend what failed" not in said and migration.NEXT_VARIABLE not in os.environ
    assert len({environment[migration.NEXT_VARIABLE] for environment in guide.environments}) == 1
    assert ("REHEARSAL FAILED with status %d" % status in said) is (status in (1, 3))


def test_what_runs_on_the_embedded_engine(guide, monkeypatch):
    monkeypatch.setenv(guided_run.ENDPOINT_VARIABLE, "http://localhost:4321")
    header = migration.journal_header(
        migration.resolve_settings(
            {}, {name: value for name, value in EMBEDDED.items() if name != "comments"}, {}
        )._replace(endpoint_url="http://localhost:4321"),
        None,
        "",
    )
    os.makedirs("backups/rehearsal")
    header.update(started="2026-11-22T20:44:26Z", asset_bucket_name="any")
    migration.Journal(migration.JournalFile("backups/rehearsal/own.jsonl"), header).close()
    assert guide("rehearse", "--workers", 3) == 0
    folders = "--journal-dir=backups/rehearsal --report-dir=reports/rehearsal"
    local = "--workers=3 --endpoint-url=http://localhost:4321 --yes " + folders
    reading = "--endpoint-url=http://localhost:4321 --report-dir=reports/rehearsal --journal=backups/rehearsal"
    assert guide.calls == [
        (MIGRATION, "%s --limit=10 --dry-run" % local),
        (MIGRATION, "%s --limit=10 --no-dry-run" % local),
        (VERIFICATION, reading.replace(" --j", " --limit=10 --j")),
        (MIGRATION, "%s --no-dry-run" % local),
        (VERIFICATION, reading),
        (MIGRATION, "%s --no-dry-run" % local),
    ]
    assert guide.questions == []


def test_a_copy_of_the_test_configuration_gets_the_engine_unless_one_serves_there(guide):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        config = guide.config(**{**EMBEDDED, "endpoint_url": "http://127.0.0.1:%d" % server.getsockname()[1]})
        assert guide("rehearse", config, 5) == 0
        assert len(engine_of(guide)) == len(guide.commands) == 1
        server.listen()
        assert guide("rehearse", config, 5) == 0
        assert len(engine_of(guide)) == 1
        assert guide.calls[1:] == [DRY, (MIGRATION, "--limit=5 --no-dry-run --yes"), VERIFIED]


def test_a_configuration_beside_the_wrapper_is_led_to(guide, monkeypatch, capsys):
    monkeypatch.setattr(guided_run, "FOLDER", str(guide.folder / "tool"))
    (guide.folder / "tool").mkdir()
    beside = guide.config("tool/my.json")
    assert guide("migrate", "my.json") == 2
    assert capsys.readouterr().err.endswith("relative to the folder where you stand: give %s.\n" % beside)


def test_a_number_beside_the_flag_for_the_configuration_is_the_limit(guide):
    assert guide("rehearse", "--config", guide.config(), "5") == 0
    assert guide.calls[0] == DRY


def test_another_port_in_the_test_configuration_itself_is_used(guide, monkeypatch):
    """Where nothing of it is changed, the rehearsal does not look at what may serve on its port."""
    monkeypatch.setattr(guided_run, "answers", lambda endpoint: True)
    default = guide.config(**EMBEDDED)
    monkeypatch.setattr(guided_run, "DEFAULT_TEST_CONFIG", str(default))
    assert guide("rehearse") == 0 and len(engine_of(guide)) == 1
    guide.config(default.name, **{**EMBEDDED, "endpoint_url": "http://127.0.0.1:8001"})
    assert guide("rehearse", "--limit", "5") == 0 and len(engine_of(guide)) == 1
    assert guide.calls[1:] == [DRY, (MIGRATION, "--limit=5 --no-dry-run --yes"), VERIFIED]


@pytest.mark.parametrize(
    "changed",
    [
        {"assets_table_name": "mine"},
        {"asset_versions_table_name": "mine"},
        {"endpoint_url": ""},
        {"endpoint_url": "http://10.0.0.1:8000"},
    ],
)
def test_the_engine_is_for_its_own_tables_only(guide, changed):
    assert guide("rehearse", guide.config(**{**EMBEDDED, **changed}), 5) == 0
    assert engine_of(guide) == []
    assert guide.calls[0] == DRY


# --- What is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "needs migrate or rehearse first"),
        (["missing.json"], "needs migrate or rehearse first"),
        (["migrate", "missing.json"], "missing.json was not found"),
        (["migrate", ""], "'' was not found"),
        (["migrate", "."], ". is a folder, not a file"),
        (["migrate", "config.json", "10"], "unrecognized arguments: 10"),
        (["migrate", "--ye"], "unrecognized arguments: --ye"),
        (["migrate", "config.json", "--config", "config.json"], "Both config.json and --config config.json"),
        (["migrate", "config.json", "--batch-size", "26"], "batch_size in the command line is 26"),
        (["rehearse", "10"], "without one give --limit 10."),
        (["migrate", "config.json", "10"], "did you mean --limit 10?"),
        (["rehearse", "10", "config.json"], "'config.json' comes first, then the number of assets"),
        (["rehearse", "config.json", "ten"], "'ten' is not a whole"),
        (["rehearse", "config.json", "0"], "'0' is not a whole"),
        (["rehearse", "config.json", "-3"], "-3"),
        (["rehearse", "config.json", "3", "4"], "arguments: 4\n  Fix: `--help` lists the flags."),
        (["rehearse", "config.json", "3", "--limit", "3"], "Both 3 and --limit 3"),
        (["rehearse", "--limit", "0"], "--limit 0 looks at no asset."),
        (["rehearse", "--config", "config.json", "0"], "--limit 0 looks at no asset."),
        (["migrate", "5", "config.json"], "the configuration comes first"),
    ],
)
def test_wrong_usage_names_a_remedy(guide, capsys, arguments, said):
    guide.config("config.json")
    assert guided_run.main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "\n  Fix: " in error
    assert guide.calls == []


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_configuration_that_is_not_json_is_refused(guide, capsys, text):
    path = guide.folder / "bad.json"
    path.write_bytes(text.encode("latin-1"))
    assert guide("migrate", path) == 2
    assert "Fix: " in capsys.readouterr().err


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
    ],
)
def test_which_endpoints_are_local(endpoint, local):
    assert guided_run.is_local(endpoint) is local


# --- As an operator runs them --------------------------------------------------------------

STUB = """
if __name__ == "__main__":
    with open("calls.jsonl", "a") as calls:
        calls.write(json.dumps([os.path.basename(__file__)] + sys.argv[1:]) + "\\n")
    print("stub " + os.path.basename(__file__))
    sys.exit(0)
"""
MAIN = '\nif __name__ == "__main__":\n'

# Stands in for the environment's Python: fast, and it never asks a package index.
FAKE_PYTHON = """#!/bin/sh
if [ "$2" = pip ]; then exit 0; fi
exec "{python}" "$@"
"""


class Folder:
    """A copy of the tool, whose migration and verification only note how they were called."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        for name in (*SCRIPTS, *NEEDED, guided_run.DEFAULT_CONFIG, guided_run.DEFAULT_TEST_CONFIG, ROLLBACK):
            shutil.copy(str(PROJECT / name), str(path))
        (path / "requirements.txt").write_text("# nothing\n")
        for name in (MIGRATION, VERIFICATION):
            source, _, _ = (PROJECT / name).read_text().partition(MAIN)
            (path / name).write_text(source + "import json\n" + STUB)

    def config(self, name="my config.json", **settings):
        path = self.path / name
        path.write_text(json.dumps({**NAMES, **settings}))
        return path

    def command(self, script, *arguments):
        return [str(self.path / script), *map(str, arguments)]

    def run(self, script, *arguments, cwd=None, env=None, shell=()):
        return subprocess.run(
            [*shell, *self.command(script, *arguments)],
            cwd=str(cwd or self.path),
            env=env or environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            timeout=300,
            check=False,
        )

    def calls(self, cwd=None):
        path = (cwd or self.path) / "calls.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(name, options) for name, *options in map(json.loads, lines)]


def environment(python=sys.executable):
    env = dict(os.environ)
    env.pop(guided_run.ENDPOINT_VARIABLE, None)
    env["PATH"] = os.path.dirname(python) + os.pathsep + env["PATH"]
    return env


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "with a space")


def on_terminal(folder, script, *arguments, answers=()):
    """Run on a pseudo-terminal; each answer is typed when its question shows."""
    main_end, terminal = pty.openpty()
    process = subprocess.Popen(
        folder.command(script, *arguments),
        cwd=str(folder.path),
        env=environment(),
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
                os.write(main_end, waiting.pop(0).encode())
        status = process.wait(timeout=300)
    finally:
        os.close(main_end)
        process.kill()
    assert not waiting, f"not asked: {waiting}\n{shown}"
    return status, shown


@pytest.mark.parametrize("script", SCRIPTS)
def test_names_that_mean_something_to_a_shell(tmp_path, script):
    odd = "a b; $(touch pwned) `touch pwned` & 'c' \"d\" *"
    folder = Folder(tmp_path / odd)
    config = folder.config(odd + ".json", endpoint_url="http://localhost:8000")
    result = folder.run(script, config)
    assert result.returncode == 0, result.stderr
    assert {options[1] for _, options in folder.calls()} == {str(config)}
    assert not list(tmp_path.rglob("pwned"))


def test_from_another_folder(folder, tmp_path):
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    folder.config().rename(elsewhere / "mine.json")
    assert folder.run("run_migration.sh", "mine.json", cwd=elsewhere).returncode == 0
    assert [options[:2] for _, options in folder.calls(elsewhere)] == [["--config", "mine.json"]] * 2
    assert os.listdir(elsewhere / "logs")
    assert not (folder.path / "logs").exists()


def test_answers_on_a_terminal(folder):
    status, shown = on_terminal(folder, "run_migration.sh", folder.config(), answers=["maybe\n", "\n"])
    assert status == 0
    assert "Verify the result now? [Y/n]" in shown
    assert len(folder.calls()) == 2


def test_end_of_input_at_a_question_on_a_terminal_stops(folder):
    status, shown = on_terminal(folder, "run_test_migration.sh", folder.config(), answers=["\x04"])
    assert status == 130
    assert "Nothing was written." in shown
    assert len(folder.calls()) == 1


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("shell", [["sh"], ["bash"], ["bash", "--posix"]])
def test_called_with_a_shell(folder, script, shell):
    result = folder.run(script, "--help", shell=shell)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"usage: {script[:-3]} " in result.stdout


def test_a_reader_that_goes_away_gets_no_traceback(folder):
    (folder.path / MIGRATION).write_text((PROJECT / MIGRATION).read_text())
    command = "'%s' '%s' --endpoint-url http://127.0.0.1:1 --assets-table ttt" % (
        folder.path / "run_test_migration.sh", folder.config()
    )  # fmt: skip
    result = subprocess.run(
        ["sh", "-c", command + " | head -1"],
        cwd=str(folder.path),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        timeout=300,
        check=False,
    )
    assert "Traceback" not in result.stderr
    assert "Exception" not in result.stderr


@pytest.mark.parametrize("missing", ["guided_run.py", "load_migration.py", "sample_assets.py", MIGRATION, VERIFICATION])
def test_a_file_that_was_not_copied_is_named(folder, missing):
    (folder.path / missing).unlink()
    result = folder.run("run_migration.sh", folder.config())
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: %s is missing" % missing)
    assert result.stderr.count("\n") == 2
    assert "in one folder" in result.stderr
    assert folder.calls() == []


DOCUMENTED = (  # in the user's document
    "v2.2_to_v2.3_migration.py", "v2.2_to_v2.3_migration_verify.py", "v2.2_to_v2.3_migration_test.py", *SCRIPTS
)  # fmt: skip


@pytest.mark.parametrize("helper", [None, "load_migration.py"])
@pytest.mark.parametrize("script", [*DOCUMENTED[1:], ROLLBACK, "local_dynamodb.py"])
def test_copying_only_the_documented_files_is_answered_with_what_is_missing(tmp_path, script, helper):
    for name in filter(None, (*DOCUMENTED, script, helper)):
        shutil.copy(str(PROJECT / name), str(tmp_path))
    command = [] if script.endswith(".sh") else [sys.executable]
    result = subprocess.run(
        [*command, str(tmp_path / script), "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    if (script, helper) == (ROLLBACK, "load_migration.py"):
        assert result.returncode == 0
        return
    assert result.returncode == 2
    assert re.fullmatch(
        r"error: \S+\.py is missing.*\n  Fix: keep all files of this tool in one folder\.\n", result.stderr
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_where_files_are_missing_is_a_folder_that_one_can_go_to(tmp_path, script):
    shutil.copy(str(PROJECT / script), str(tmp_path))
    result = subprocess.run(["./" + script], cwd=str(tmp_path), stderr=subprocess.PIPE, universal_newlines=True)
    assert "guided_run.py is missing in %s.\n" % tmp_path in result.stderr


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
        timeout=300,
        check=False,
    )
    assert result.returncode == 0
    assert len(folder.calls(bin_folder)) == 2


WAITS = """
if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        print("ready", flush=True)
        time.sleep(30)
    except KeyboardInterrupt:
        time.sleep(1)
        print("finished the writes", flush=True)
        sys.exit(130)
"""


@pytest.mark.parametrize(
    ("number", "whom"), [(signal.SIGINT, os.kill), (signal.SIGTERM, os.kill), (signal.SIGHUP, os.kill)]
)
def test_a_signal_waits_for_the_migration_and_keeps_its_status(folder, number, whom):
    source = (folder.path / MIGRATION).read_text()
    (folder.path / MIGRATION).write_text(source.replace(STUB, WAITS))
    process = subprocess.Popen(
        folder.command("run_migration.sh", folder.config()),
        cwd=str(folder.path),
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
    rest, _ = process.communicate(timeout=300)
    assert "finished the writes" in rest
    assert process.returncode == 130
    assert folder.calls() == []


def test_no_python_at_all(folder, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "dirname", "readlink"):
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
        timeout=300,
        check=False,
    )
    assert result.returncode == 3
    assert "Fix: install Python 3" in result.stderr


# --- The environment -----------------------------------------------------------------------


@pytest.fixture(scope="session")
def bare(tmp_path_factory):
    """A Python without boto3 and without pip."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return str(folder / "bin" / "python")


def own_environment(folder, text):
    python = folder.path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(text)
    python.chmod(0o755)


def test_a_python_that_has_boto3_is_used_as_it_is(folder):
    assert folder.run("run_migration.sh", folder.config()).returncode == 0
    assert not (folder.path / ".venv").exists()


def test_where_boto3_is_missing_the_own_environment_is_used_and_no_index_asked(folder, bare):
    own_environment(folder, FAKE_PYTHON.format(python=sys.executable).replace("exit 0", "exit 1"))
    result = folder.run("run_migration.sh", folder.config(), env=environment(bare))
    assert result.returncode == 0, result.stderr
    assert len(folder.calls()) == 2


def test_an_environment_is_made_and_made_again_when_broken(folder, bare):
    """Of the system's own Python; its pip is given nothing to install, and so finds no boto3."""
    result = folder.run("run_migration.sh", folder.config(), env=environment(bare))
    assert "Making " in result.stdout
    assert result.returncode == 3
    assert "pip could not install requirements.txt" in result.stderr

    python = folder.path / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/no/such/python")  # as after an upgrade of the system's Python
    assert "Making " in folder.run("run_migration.sh", folder.config(), env=environment(bare)).stdout

    # As if pip had found an index.
    site = next((folder.path / ".venv" / "lib").glob("python*/site-packages"))
    (site / "boto3.py").write_text("__version__ = '1.17.0'\n")
    result = folder.run("run_migration.sh", folder.config(), env=environment(bare))
    assert result.returncode == 0, result.stderr
    assert "Making " not in result.stdout
    (site / "boto3.py").write_text("__version__ = '1.16.63'\n")
    assert folder.run("run_migration.sh", folder.config(), env=environment(bare)).returncode == 3


def test_what_fits_is_what_the_requirements_ask_for():
    requirements = (PROJECT / "requirements.txt").read_text()
    for version, fits in (("1.16.63", False), ("1.17.0", True), ("1.100.0", True), ("2.0", True)):
        code = guided_run.FITTING.replace("import boto3, sys;", "import sys;").replace(
            "boto3.__version__", repr(version)
        )
        assert (subprocess.call([sys.executable, "-c", code]) == 0) is fits
    assert "boto3>=1.17\n" in requirements


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ('#!/bin/sh\n[ "$2" = "import pip" ]\n', "pip could not"),
        (None, "could not make the virtual environment"),
    ],
)
def test_an_environment_that_cannot_be_made_names_a_remedy(folder, bare, python, said):
    if python:
        own_environment(folder, python)
    else:
        (folder.path / ".venv").write_text("a file in the way")
    result = folder.run("run_migration.sh", folder.config(), env=environment(bare))
    assert result.returncode == 3
    assert said in result.stderr
    assert "Fix: see" in result.stderr
    assert folder.calls() == []


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
    assert f"$guided = @($guide, '{command}')" in powershell
    for switch in ("Yes", "Help"):
        assert f"if (${switch}) {{ $guided += '--{switch.lower()}' }}" in powershell


@pytest.mark.parametrize("name", ["run_migration", "run_test_migration"])
def test_powershell_refuses_hosts_that_can_show_no_question_unless_none_is_asked(name):
    source = (PROJECT / f"{name}.ps1").read_text()
    refusal = source.index("if (@('Windows PowerShell ISE Host', 'ServerRemoteHost') -contains $Host.Name -and")
    assert refusal < source.index("foreach ($candidate in")
    condition, remedy = source[refusal:].split("{\n", 1)
    assert "-not ($Yes -or $Help -or ($Arguments -match '^--(yes|help|version|dry-run)$'))" in condition
    assert remedy.lstrip().startswith("Exit-WithError 2 ") and "give -Yes" in remedy.split("}")[0]


@pytest.mark.parametrize("name", ["run_migration", "run_test_migration"])
def test_powershell_parses_and_is_plain_ascii(name):
    # There is no PowerShell for every machine; a grammar at least finds what cannot be parsed.
    tree_sitter = pytest.importorskip("tree_sitter")
    grammar = pytest.importorskip("tree_sitter_powershell")
    source = (PROJECT / f"{name}.ps1").read_bytes()
    source.decode("ascii")  # 5.1 reads a file without a byte order mark in the system's code page
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
    assert not parser.parse(source).root_node.has_error
