"""Load a script whose file name has dots in it, which `import` cannot.

from load_migration import migration
verify = load_script("v2.2_to_v2.3_migration_verify.py")
"""

import importlib.util
import os
import sys
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
MIGRATION = "v2.2_to_v2.3_migration.py"
MISSING = "error: %s is missing in %s.\n  Fix: keep all files of this tool in one folder.\n"
BROKEN = "error: %s cannot be read as Python, line %s: %s.\n  Fix: correct what was edited there, such as CONFIG.\n"


def load_script(file_name):
    """Return the module made from `file_name` in this folder; the same one each time. The migration itself may lie in
    the working folder instead, where Glue puts it. Where it was not copied along, say so and end."""
    name = os.path.splitext(file_name)[0].replace(".", "_")
    if name not in sys.modules:
        folders = (HERE, os.getcwd()) if file_name == MIGRATION else (HERE,)
        paths = [os.path.join(folder, file_name) for folder in folders]
        path = next(filter(os.path.isfile, paths), None)
        if path is None:
            sys.stderr.write(MISSING % (file_name, HERE))
            sys.exit(2)
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        # Before exec_module: typing and pickle look a class's module up in sys.modules.
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[name]
            if not isinstance(error, (SyntaxError, NameError)):
                raise
            line = error.lineno if isinstance(error, SyntaxError) else line_of(error, path)
            sys.stderr.write(BROKEN % (path, line, getattr(error, "msg", error)))
            sys.exit(2)
    return sys.modules[name]


def line_of(error, path):
    """The last line of this file that an error passed through."""
    return [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == path][-1]


migration = load_script(MIGRATION)
