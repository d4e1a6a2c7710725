"""The directive ``{emio}``: runs command lines of `emio` while the pages are built, and shows what they print.

Commands of a page share a folder, which is empty at first. A command that ends with another exit code than the page
says is an error, so that examples stay true.
"""

import contextlib
import io
import os
import shlex
import shutil
import sys
import tempfile
from unittest import mock

from docutils import nodes
from docutils.parsers.rst import Directive, directives

HOME = "/home/you"
WIDTH = "100"


class EmioDirective(Directive):
    """Command lines without the word `emio`, one in each line.

    ``:exit:`` is the exit code expected, 0 by default; ``:picture:`` names a file that the commands made, to show.
    """

    has_content = True
    option_spec = {"exit": directives.nonnegative_int, "picture": directives.path, "alt": directives.unchanged}  # noqa: RUF012

    def run(self):
        """Return the console, and the picture."""
        env = self.state.document.settings.env
        folder = _folder(env.app, env.docname)
        shown = []
        for line in self.content:
            code, printed = _run(line, folder)
            if code != self.options.get("exit", 0):
                raise self.error(f"emio {line}: exit code {code}\n{printed}")
            shown += [f"$ emio {line}", printed.replace(folder, HOME).rstrip()]
        text = "\n".join(part for part in shown if part)
        made = [nodes.literal_block(text, text, language="console")]
        if "picture" in self.options:
            made.append(self._picture(env, os.path.join(folder, self.options["picture"])))
        return made

    def _picture(self, env, path):
        kept = os.path.join(env.app.doctreedir, "pictures")
        os.makedirs(kept, exist_ok=True)
        shutil.copy(path, kept)
        uri = os.path.relpath(os.path.join(kept, os.path.basename(path)), os.path.dirname(env.doc2path(env.docname)))
        return nodes.image(uri=uri.replace(os.sep, "/"), alt=self.options.get("alt", self.options["picture"]))


def _run(line, folder):
    """Exit code of a command, and what it prints."""
    from intake_emio.cli import main

    printed = io.StringIO()
    arguments = ["emio", *shlex.split(line)]
    code = 0
    with (
        contextlib.chdir(folder),
        mock.patch.object(sys, "argv", arguments),
        mock.patch.dict(os.environ, COLUMNS=WIDTH, TERM="dumb"),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
            if isinstance(code, str):
                code, _ = 1, printed.write(f"{code}\n")
    return code, "\n".join(text.rstrip() for text in printed.getvalue().splitlines())


def _folder(app, docname):
    """The folder of a page, made when it is first needed."""
    folders = app.__dict__.setdefault("emio_folders", {})
    if docname not in folders:
        folders[docname] = os.path.realpath(tempfile.mkdtemp(prefix="emio-docs-"))
    return folders[docname]


def _forget(app, exception):
    for folder in app.__dict__.pop("emio_folders", {}).values():
        shutil.rmtree(folder, ignore_errors=True)


def setup(app):
    """Register the directive."""
    app.add_directive("emio", EmioDirective)
    app.connect("build-finished", _forget)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
