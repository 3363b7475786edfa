"""`opdsl ...`: finds the subcommand and hands over. Only the one that runs is imported."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast


class CommandModule(Protocol):
    """What a module of a subcommand has."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declares the subcommand's options."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Does it; returns the exit code."""


@dataclass(frozen=True)
class Command:
    module: str
    summary: str


# A new subcommand is a line here and a module with `add_arguments` and `run`.
COMMANDS = {
    "demo": Command("opdsl.cli.demo", "compile and run the example kernels, check them, show their speed"),
    "run": Command("opdsl.cli.run_command", "run a kernel on generated arguments"),
    "inspect": Command("opdsl.cli.inspect_command", "show what a kernel becomes, stage by stage"),
    "build": Command("opdsl.cli.build_command", "compile kernels ahead of time into a library"),
    "bench": Command("opdsl.cli.bench_command", "measure the operators beside other libraries"),
    "tune": Command("opdsl.cli.tune_command", "measure the configurations of a kernel, record the best"),
    "profile": Command("opdsl.cli.profile_command", "say what bounds a kernel"),
    "launch": Command("opdsl.cli.launch_command", "start a program as several processes"),
    "cache": Command("opdsl.cli.cache_command", "list, verify or clear the compiled kernels"),
    "doctor": Command("opdsl.cli.doctor", "check this machine: what works, what is missing, how to get it"),
}


def available_commands() -> dict[str, Command]:
    """The subcommands that this version has."""
    return {name: command for name, command in COMMANDS.items() if importlib.util.find_spec(command.module)}


def _top_parser() -> argparse.ArgumentParser:
    lines = "\n".join(f"  {name:<10}{command.summary}" for name, command in available_commands().items())
    parser = argparse.ArgumentParser(
        prog="opdsl",
        usage="opdsl [--version] COMMAND ...",
        description="A kernel language and operator library: one source for CPUs, GPUs and an emulated NPU.",
        epilog=f"commands:\n{lines}\n\n`opdsl COMMAND --help` says more of each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    return parser


def load(name: str) -> CommandModule | None:
    """A subcommand's module, or None where this version has no such command."""
    command = COMMANDS.get(name)
    if command is None or importlib.util.find_spec(command.module) is None:
        return None
    return cast(CommandModule, importlib.import_module(command.module))


def _version() -> str:
    from importlib.metadata import version

    return version("opdsl")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (0: well, 1: what was asked for failed, 2: asked wrongly)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0].startswith("-"):
        options = _top_parser().parse_args(words)
        if options.version:
            print(f"opdsl {_version()}")
        else:
            _top_parser().print_help()
        return 0
    name, rest = words[0], words[1:]
    module = load(name)
    if module is None:
        import difflib

        names = list(available_commands())
        near = difflib.get_close_matches(name, names, 1)
        advice = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
        print(f"opdsl: there is no command {name!r}; {advice}", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(prog=f"opdsl {name}", description=COMMANDS[name].summary)
    module.add_arguments(parser)
    try:
        return module.run(parser.parse_args(rest))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # as in `opdsl cache ls | head`
        sys.stderr.close()
        return 0
    except Exception as error:  # noqa: BLE001 - a user gets a message, not a traceback
        return _failed(error)


def _failed(error: Exception) -> int:
    """Shows an error; returns the exit code."""
    from opdsl.harness.errors import CommandError
    from opdsl.support.cache import CacheError
    from opdsl.support.errors import OpdslError
    from opdsl.support.knobs import KnobError, knobs
    from opdsl.support.toolchain import ToolchainError

    if isinstance(error, CommandError):
        print(f"opdsl: {error}", file=sys.stderr)
        return error.code
    if isinstance(error, OpdslError):
        print(error, file=sys.stderr)
        return 1
    if isinstance(error, ToolchainError | KnobError | CacheError):
        print(f"opdsl: {error}", file=sys.stderr)
        return 1
    if knobs.traceback:
        raise error
    print(f"opdsl: {type(error).__name__}: {error}", file=sys.stderr)
    print("help: this is a defect of OpDSL: please report it; OPDSL_TRACEBACK=1 shows where", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
