"""What the engine takes at most: the migration's own requests, recorded, and sent again with nothing between them.

    python ready_made.py --record FILE FLAGS    migrate, and write the requests down
    python ready_made.py FILE FLAGS             send them again, on tables as those were before

As many threads as the migration has send writes and reads, each in the order in which they went out. Nothing is
planned, awaited, saved or reported. The last line of the output is the seconds that this took.
"""

import argparse
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from load_migration import migration  # noqa: E402

WORKERS = migration.SETTINGS["workers"].default


def record(path, flags):
    """Migrate; each line of the file is an operation and its request. The preflight's are not among them."""
    sent = []
    run = migration.agreed_run([*flags, "--yes"], "")
    wire = run[0].wire
    call = wire.call

    def recorded_call(operation, request):
        sent.append((operation, request))
        return call(operation, request)

    wire.call = recorded_call
    status = migration.run_migration(*run)
    assert status == migration.EXIT_DONE, status
    with open(path, "w") as file:
        file.writelines(json.dumps(request) + "\n" for request in sent)


def send_again(path, flags):
    settings, _ = migration.configured(migration.make_parser("", migration.SETTINGS), flags)
    _, database = migration.connect(settings)
    with open(path) as file:
        requests = [json.loads(line) for line in file]
    start = time.monotonic()
    with ThreadPoolExecutor(WORKERS) as writers, ThreadPoolExecutor(migration.READERS) as readers:
        answers = []
        for operation, request in requests:
            threads = writers if operation == "BatchExecuteStatement" else readers
            answers.append(threads.submit(database.wire.call, operation, request))
        for answer in answers:
            answer.result()
    return time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--record", action="store_true")
    parser.add_argument("file")
    options, flags = parser.parse_known_args()
    if options.record:
        record(options.file, flags)
    else:
        print("%.3f" % send_again(options.file, flags))


if __name__ == "__main__":
    main()
