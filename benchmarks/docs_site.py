"""What the documentation site takes from the code as it is built; run by itself, it writes console blocks anew.

In a page, `<!-- commands -->` becomes the help of every command and `<!-- take FILE -->` the text of a file of the
project, `<!-- take FILE # HEADING -->` the part of it under a heading.
"""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
HOME = "https://github.com/pharos-nn/pharos/blob/main/"
# Pages that a measurement writes; a checkout may be without them, and then nothing leads to them.
WRITTEN = {"labs.md", "search_speed.md"}
# Pages whose console blocks are compared with what the commands print, and whose Python runs.
PAGES = ("index.md", "start.md", "model.md", "extend.md", "howto/fit.md", "howto/slow.md", "howto/train.md",
         "howto/serve.md")  # fmt: skip
BLOCK = re.compile(r"```console\n\$ (pharos .*?)\n(.*?)```", re.S)
SKIP = "..."


def on_config(config):
    """Leaves out what a target has not written yet."""
    config.nav = _kept(config.nav, absent())
    return config


def absent():
    """Pages that may not be there and are not."""
    return {name for name in WRITTEN if not (ROOT / "docs" / name).is_file()}


def _kept(entries, gone):
    found = []
    for entry in entries:
        ((title, target),) = entry.items()
        if isinstance(target, list):
            found.append({title: _kept(target, gone)})
        elif target not in gone:
            found.append(entry)
    return found


def on_page_markdown(markdown, page, **_):
    """Fills in what comes from the code; links out of the pages lead to the project."""
    markdown = re.sub(r"<!-- commands -->", lambda _: commands(), markdown)
    markdown = re.sub(r"<!-- take (\S+?)(?: # (.*?))? -->", lambda m: taken(m[1], m[2]), markdown)
    for name in absent():
        markdown = re.sub(rf"\[([^\]]*)\]\({re.escape(name)}(#[^)]*)?\)", r"\1", markdown)
    up = "../" * (page.file.src_uri.count("/") + 1)
    return re.sub(rf"\]\({re.escape(up)}(?!\.\./)", f"]({HOME}", markdown)


def taken(name, heading=None):
    """A file as Markdown: a page's part as it is, anything else as a block of code."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if heading is not None:
        part = re.compile(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#{{1,6}} |\Z)", re.S | re.M)
        return part.search(text)[1].strip()
    if name.endswith(".md"):
        return text
    return f"```{Path(name).suffix[1:].replace('py', 'python')}\n{text.rstrip()}\n```"


def commands():
    """Help of every command, from the application itself."""
    from typer.main import get_command

    from pharos.doors.cli.app import app

    found = []
    for name, command in sorted(get_command(app).commands.items()):
        arguments = [p for p in command.params if not p.opts[0].startswith("-")]
        options = [p for p in command.params if p.opts[0].startswith("-") and p.name != "help"]
        usage = " ".join([f"pharos {name}", *(_place(p) for p in arguments)])
        found += [f"## {name}", "", _told(command.help), "", f"`{usage}`", ""]
        if command.params:
            found += ["| takes | |", "|---|---|"]
            found += [f"| `{(p.metavar or p.name).upper()}` | {_cell(p.help)} |" for p in arguments]
            found += [
                f"| {', '.join(f'`{o}`' for o in p.opts)} | {_cell(p.help)}{_default(p)} |" for p in options
            ]
            found += [""]
    return "\n".join(found)


def _place(argument):
    name = (argument.metavar or argument.name).upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _default(option):
    given = option.default
    return (
        f" By default {given}." if isinstance(given, int | float | str) and given not in (False, "") else ""
    )


def _told(words):
    return "\n".join(line.strip() for line in (words or "").splitlines())


def _cell(words):
    return " ".join((words or "").split()).replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")


def printed(command):
    """What a command prints at 80 columns, line by line."""
    from typer.testing import CliRunner

    from pharos.doors.cli.app import app

    found = CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1"}).invoke(app, shlex.split(command)[1:])
    if found.exit_code not in (0, 1, 3) or not isinstance(found.exception, SystemExit | None):
        raise ValueError(f"{command}: {found.exception or found.output}")
    return [line.rstrip() for line in found.stdout.rstrip().splitlines()]


def shortened(lines, shown):
    """The lines that a block shows: all, or as many as it has before and after a line `...`."""
    if SKIP not in shown:
        return lines
    at = shown.index(SKIP)
    after = len(shown) - at - 1
    return [*lines[:at], SKIP, *(lines[-after:] if after else [])]


def main():
    """Runs every console block of the site's own pages and writes what it prints now."""
    for name in PAGES:
        page = ROOT / "docs" / name
        text = page.read_text(encoding="utf-8")
        new = BLOCK.sub(
            lambda m: (
                f"```console\n$ {m[1]}\n" + "\n".join(shortened(printed(m[1]), m[2].splitlines())) + "\n```"
            ),
            text,
        )
        if new != text:
            page.write_text(new, encoding="utf-8")
            print(f"docs/{name} written anew")


if __name__ == "__main__":
    main()
