"""Completion scripts for bash, zsh and fish, made from the flags of the parser.

cdaphne --completion bash > /usr/share/bash-completion/completions/cdaphne
cdaphne --completion zsh  > /usr/share/zsh/vendor-completions/_cdaphne
cdaphne --completion fish > ~/.config/fish/completions/cdaphne.fish
"""

from __future__ import annotations

from argparse import Action
from collections.abc import Callable

from .flags import Parser
from .options import OPTIONS

FILES = {"PATH", "FILE"}  # metavars that stand for a file


def script(shell: str, parser: Parser) -> str:
    """The completion script for "bash", "zsh" or "fish"."""
    shown = [action for action in parser.actions() if action.option_strings]
    return SCRIPTS[shell](parser.prog, shown)


def _words(action: Action) -> tuple[str, ...]:
    """The values that a flag can have, if they can be listed."""
    if action.dest in OPTIONS:
        return tuple(OPTIONS[action.dest].words.split())
    return tuple(str(choice) for choice in action.choices or ())


def _takes_value(action: Action) -> bool:
    return action.nargs != 0


def _is_file(action: Action) -> bool:
    return action.metavar in FILES and action.dest != "root_path"


def _help(action: Action) -> str:
    return " ".join((action.help or "").replace("%%", "%").split())


# ---- bash ----

BASH = """# bash completion for {prog}, made by: {prog} --completion bash
_{prog}() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    # bash splits --flag=value at the sign.
    if [[ $word == "=" ]]; then
        word=""
    elif [[ $before == "=" ]]; then
        before=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    case $before in
{cases}
    esac
    if [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "{flags}" -- "$word"))
    fi
}}
complete -F _{prog} {prog}"""


def _bash(prog: str, actions: list[Action]) -> str:
    cases = []
    for action in filter(_takes_value, actions):
        pattern = "|".join(action.option_strings)
        if _is_file(action):
            reply = 'compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$word"))'
        else:
            reply = f'COMPREPLY=($(compgen -W "{" ".join(_words(action))}" -- "$word"))'
        cases.append(f"    {pattern}) {reply}; return ;;")
    flags = " ".join(flag for action in actions for flag in action.option_strings)
    return BASH.format(prog=prog, cases="\n".join(cases), flags=flags)


# ---- zsh ----

ZSH = """#compdef {prog}
# zsh completion for {prog}, made by: {prog} --completion zsh
_{prog}() {{
    _arguments -s \\
{specs}
        '1:application (MODULE\\:ATTRIBUTE):'
}}
if [[ $funcstack[1] == _{prog} ]]; then
    _{prog} "$@"
else
    compdef _{prog} {prog}
fi"""


def _zsh_text(text: str) -> str:
    for character in "\\[]:":
        text = text.replace(character, f"\\{character}")
    return text.replace("'", "'\\''")


def _zsh(prog: str, actions: list[Action]) -> str:
    specs = []
    for action in actions:
        value = ""
        if _takes_value(action):
            what = f"({' '.join(_words(action))})" if _words(action) else " "
            if _is_file(action):
                what = "_files"
            value = f":{_zsh_text(str(action.metavar or action.dest))}:{what}"
        many = isinstance(action.default, list)
        for flag in action.option_strings:
            others = "" if many else f"({' '.join(action.option_strings)})"
            sign = "=" if value and flag.startswith("--") else ""
            star = "*" if many else ""
            specs.append(
                f"        '{others}{star}{flag}{sign}[{_zsh_text(_help(action))}]{value}' \\"
            )
    return ZSH.format(prog=prog, specs="\n".join(specs))


# ---- fish ----


def _fish_text(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _fish(prog: str, actions: list[Action]) -> str:
    lines = [
        f"# fish completion for {prog}, made by: {prog} --completion fish",
        f"complete -c {prog} -f",
    ]
    for action in actions:
        names = [
            f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
            for flag in action.option_strings
        ]
        parts = [f"complete -c {prog}", *names]
        if _takes_value(action):
            parts.append("-r" if _is_file(action) else "-x")
            if _is_file(action):
                parts.append("-F")
            if _words(action):
                parts.append(f"-a '{' '.join(_words(action))}'")
        parts.append(f"-d '{_fish_text(_help(action))}'")
        lines.append(" ".join(parts))
    return "\n".join(lines)


SCRIPTS: dict[str, Callable[[str, list[Action]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
