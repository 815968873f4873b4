"""The command line: what may be typed, and who does it. What the commands do is in the modules beside.

Those are imported by the commands that need them: one that only asks a running node starts in half the time.
Flags go before environment, environment before the configuration file, the file before the defaults.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from receipts.core.errors import Code, Refused
from receipts.core.ids import direct, is_user_id
from receipts.node.commands import (
    AddUser,
    ConfigureApp,
    ExplainFor,
    ListUsers,
    MakeGroup,
    MakeToken,
    RemoveUser,
    RevokeTokens,
    SetPassword,
    Stats,
)
from receipts.storage.base import StoreCorrupt, StoreLocked

from .complaints import Complaint, reason_of, run_loop
from .operate import Operate, begin_new_life, operating, problems, verify_all

if TYPE_CHECKING:
    from .config import Config
    from .serve import Serving

__all__ = ["program", "run"]

_T = TypeVar("_T")

_USAGE_ERROR: Any = typer.BadParameter.__mro__[2]
"""`ClickException`, wherever this version of typer keeps it."""

DEFAULT_TCP = "127.0.0.1:4000"
DEFAULT_WS = "127.0.0.1:4001"
LOOPS = ("uvloop", "asyncio", "trio")
LOG_FORMATS = ("text", "json")
INTERRUPTED = 130
FAULTS = ("none", "some", "many", "cruel")
SIMULATED_EVENTS = 2000
TOKEN_DAYS = 30.0
DAY_MS = 24 * 60 * 60 * 1000

program = typer.Typer(
    name="receipts",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Message receipts and unread counts for instant messaging: a node, its operator's tools, a client.",
    epilog="Begin with `receipts demo`, then `receipts serve --data ./data`.",
)
user = typer.Typer(no_args_is_help=True, help="Accounts of a node.")
group = typer.Typer(no_args_is_help=True, help="Groups, made in somebody's name.")
app = typer.Typer(
    no_args_is_help=True, help="Apps: tenants of a node, with features and limits of their own."
)
program.add_typer(user, name="user")
program.add_typer(group, name="group")
program.add_typer(app, name="app")

# -- options that several commands share

Data = Annotated[
    Path | None,
    typer.Option("--data", envvar="RECEIPTS_DATA", metavar="DIR", help="The node's directory."),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", envvar="RECEIPTS_CONFIG", metavar="FILE", help="A configuration file (TOML)."),
]
App = Annotated[str, typer.Option("--app", envvar="RECEIPTS_APP", metavar="NAME", help="The tenant.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A user: 1 to 64 characters of a-z 0-9 _ . -")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of stdin.")
]


def run(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0 done, 1 not done, 2 not understood, 130 interrupted.
    """
    try:
        status = program(arguments, prog_name="receipts", standalone_mode=False)
        if status == INTERRUPTED:
            return _complain("interrupted", INTERRUPTED)  # newer versions of typer catch it themselves
        return status if isinstance(status, int) else 0
    except _USAGE_ERROR as error:
        return _complain(error.format_message(), 2, hint=_help_of(error))
    except (typer.Abort, KeyboardInterrupt):
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has left; there is nobody to tell
        return 1
    except Exception as error:
        reason = reason_of(error)
        if reason is None:
            raise
        return _complain(reason, error.status if isinstance(error, Complaint) else 1)


def _complain(text: str, status: int, *, hint: str = "") -> int:
    line = " ".join(text.split())
    print(f"receipts: {line}{hint}", file=sys.stderr)
    return status


def _help_of(error: Any) -> str:
    context = getattr(error, "ctx", None)
    return f" (see `{context.command_path} --help`)" if context is not None else ""


def _version(wanted: bool) -> None:
    if wanted:
        print(f"receipts {metadata.version('message-receipts')}")
        raise typer.Exit


@program.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """See above."""


def _config(path: Path | None) -> Config:
    from .config import NOTHING, load_config

    return load_config(path) if path is not None else NOTHING


def _data(data: Path | None, config: Path | None) -> Path:
    found = data or (_config(config).serve.get("data") if config is not None else None)
    if found is None:
        raise Complaint("say where the node's data is: --data DIR, or RECEIPTS_DATA=DIR", status=2)
    return Path(found)


def _operate(
    data: Path | None,
    config: Path | None,
    work: Callable[[Operate], Awaitable[_T]],
    *,
    create: bool = False,
) -> _T:
    """Do something with the node that owns the directory, or with its data when none runs."""

    async def main() -> _T:
        async with operating(_data(data, config), create=create) as operate:
            return await work(operate)

    return run_loop(main)


def _password(from_stdin: bool, prompt: str, *, confirm: bool = False) -> str:
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise Complaint("there is no password on the first line of stdin", status=2)
        return password
    if not sys.stdin.isatty():
        raise Complaint("there is no terminal to ask for a password: pass --password-stdin", status=2)
    return str(typer.prompt(prompt, hide_input=True, confirmation_prompt=confirm))


def _show(rows: list[dict[str, Any]], columns: tuple[str, ...], *, as_json: bool) -> None:
    """A table for people, lines with tabs for pipes, JSON for programs."""
    if as_json:
        print(json.dumps(rows))
    elif sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(*(column.removesuffix("_ms") for column in columns))
        for row in rows:
            table.add_row(*(_for_people(column, row[column]) for column in columns))
        Console().print(table)
    else:
        for row in rows:
            print(*(row[column] for column in columns), sep="\t")


def _for_people(column: str, content: Any) -> str:
    if column.endswith("_ms"):
        return datetime.fromtimestamp(content / 1000, UTC).isoformat(" ", "seconds")
    if isinstance(content, bool):
        return "yes" if content else "no"
    return str(content)


# -- the node


@program.command("serve")
def _serve(
    data: Data = None,
    tcp: Annotated[
        list[str] | None,
        typer.Option(envvar="RECEIPTS_TCP", metavar="HOST:PORT", help=f"Listen for TCP [{DEFAULT_TCP}]."),
    ] = None,
    ws: Annotated[
        list[str] | None,
        typer.Option(
            envvar="RECEIPTS_WS", metavar="HOST:PORT[/path]", help=f"Listen for websockets [{DEFAULT_WS}]."
        ),
    ] = None,
    easemob: Annotated[
        list[str] | None,
        typer.Option(
            envvar="RECEIPTS_EASEMOB",
            metavar="HOST:PORT",
            help="Serve Easemob's Web SDK [off].",
        ),
    ] = None,
    app_key: Annotated[
        list[str] | None,
        typer.Option(envvar="RECEIPTS_APP_KEY", metavar="ORG#APP", help="For this app of it; may repeat."),
    ] = None,
    open_registration: Annotated[
        bool | None,
        typer.Option(
            "--open-registration",
            envvar="RECEIPTS_OPEN_REGISTRATION",
            help="Let users of these apps register themselves [off].",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(envvar="RECEIPTS_TLS_CERT", metavar="FILE", help="PEM; tcp becomes tls, ws wss."),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(envvar="RECEIPTS_TLS_KEY", metavar="FILE", help="PEM; its private key.")
    ] = None,
    config: ConfigFile = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            envvar="RECEIPTS_METRICS", metavar="HOST:PORT", help="Serve figures for Prometheus [off]."
        ),
    ] = None,
    loop: Annotated[
        str | None,
        typer.Option(envvar="RECEIPTS_LOOP", metavar="|".join(LOOPS), help="Event loop [uvloop if there]."),
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option(envvar="RECEIPTS_LOG_FORMAT", metavar="|".join(LOG_FORMATS), help="Of stderr [text]."),
    ] = None,
    heartbeat: Annotated[
        float | None,
        typer.Option(
            envvar="RECEIPTS_HEARTBEAT", metavar="SECONDS", help="Close what is silent for twice this [30]."
        ),
    ] = None,
) -> None:
    """Run a node on a directory until SIGTERM or SIGINT.

    When it listens, one line per URL goes to stdout, such as `listening tcp://127.0.0.1:4000`; logs go to
    stderr. Flags go before environment (`RECEIPTS_…`), environment before the file.

    **Examples**

    `receipts serve --data ./data`

    `receipts serve --data ./data --easemob 127.0.0.1:4002 --app-key 'org#app' --open-registration`

    `receipts serve --data /var/lib/receipts --tcp 0.0.0.0:4000 --ws 0.0.0.0:443/chat --tls-cert cert.pem
    --tls-key key.pem --metrics 127.0.0.1:9400`
    """
    from receipts.node.process import calm_collector

    from . import logs
    from .serve import default_loop, serve

    known = _config(config)
    given = {
        "tcp": tcp or None,
        "ws": ws or None,
        "easemob": easemob or None,
        "app_key": app_key or None,
        "open_registration": open_registration,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "metrics": metrics,
        "loop": loop,
        "log_format": log_format,
        "heartbeat": heartbeat,
    }
    chosen = {**known.serve, **{name: found for name, found in given.items() if found is not None}}
    serving = _serving(_data(data, config), chosen, known)
    logs.set_up(_one_of("log-format", chosen.get("log_format", "text"), LOG_FORMATS))
    calm_collector()
    run_loop(partial(serve, serving), _one_of("loop", chosen.get("loop") or default_loop(), LOOPS))


def _serving(data: Path, chosen: dict[str, Any], known: Config) -> Serving:
    from .serve import Serving, check_app_keys, public_url, tls_context

    certificate, key = chosen.get("tls_cert"), chosen.get("tls_key")
    if (certificate is None) != (key is None):
        raise Complaint("--tls-cert and --tls-key go together", status=2)
    context = (
        tls_context(Path(certificate), Path(key)) if certificate is not None and key is not None else None
    )
    tcp, ws = chosen.get("tcp"), chosen.get("ws")
    if not tcp and not ws:
        tcp, ws = [DEFAULT_TCP], [DEFAULT_WS]
    addresses = [*(("tcp", address) for address in tcp or ()), *(("ws", address) for address in ws or ())]
    easemob, app_keys = tuple(chosen.get("easemob") or ()), tuple(chosen.get("app_key") or ())
    check_app_keys(easemob, app_keys)
    heartbeat = float(chosen.get("heartbeat", 30))
    if not 0.1 <= heartbeat <= 3600:
        raise Complaint(f"--heartbeat {heartbeat:g} is not between 0.1 and 3600 seconds", status=2)
    return Serving(
        data=data,
        urls=tuple(public_url(kind, address, secure=context is not None) for kind, address in addresses),
        apps=known.apps,
        ssl_context=context,
        metrics=chosen.get("metrics"),
        heartbeat_ms=round(heartbeat * 1000),
        easemob=tuple(public_url("http", address, secure=context is not None) for address in easemob),
        app_keys=app_keys,
        open_registration=bool(chosen.get("open_registration")),
    )


def _one_of(flag: str, found: str, known: tuple[str, ...]) -> str:
    if found not in known:
        raise Complaint(f"--{flag} {found!r} is none of {', '.join(known)}", status=2)
    return found


# -- accounts


@user.command("add")
def _user_add(
    name: Name,
    data: Data = None,
    password_stdin: PasswordStdin = False,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="Let only tokens in (see `receipts token`).")
    ] = False,
    app: App = "default",
    config: ConfigFile = None,
) -> None:
    """Open an account.

    **Examples**

    `receipts user add alice --data ./data` asks for a password

    `echo secret | receipts user add alice --password-stdin`

    `receipts user add robot --no-password`
    """
    if password_stdin and no_password:
        raise Complaint("--password-stdin and --no-password exclude each other", status=2)
    password = None if no_password else _password(password_stdin, "Password", confirm=True)
    command = AddUser(rid=1, app=app, user=name, password=password)
    _operate(data, config, lambda operate: operate(command), create=True)
    print(f"added {name}")


@user.command("list")
def _user_list(
    data: Data = None, app: App = "default", as_json: AsJson = False, config: ConfigFile = None
) -> None:
    """List the accounts of an app, by name.

    To a pipe: a line each, name, whether it has a password, and when it was opened (ms since 1970), with
    tabs between.
    """

    async def work(operate: Operate) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        page: list[dict[str, Any]] | None = None
        while page is None or page:
            after = rows[-1]["user"] if rows else ""
            page = json.loads((await operate(ListUsers(rid=1, app=app, after=after)))["text"])
            rows += page
        return rows

    _show(_operate(data, config, work), ("user", "password", "created_ms"), as_json=as_json)


@user.command("remove")
def _user_remove(name: Name, data: Data = None, app: App = "default", config: ConfigFile = None) -> None:
    """Close an account: its sessions end, its groups are left. What it wrote stays."""
    command = RemoveUser(rid=1, app=app, user=name)
    _operate(data, config, lambda operate: operate(command))
    print(f"removed {name}")


@user.command("password")
def _user_password(
    name: Name,
    data: Data = None,
    password_stdin: PasswordStdin = False,
    app: App = "default",
    config: ConfigFile = None,
) -> None:
    """Set a new password. Tokens given before are void, and sessions end."""
    command = SetPassword(
        rid=1, app=app, user=name, password=_password(password_stdin, "Password", confirm=True)
    )
    _operate(data, config, lambda operate: operate(command))
    print(f"changed the password of {name}")


@user.command("revoke")
def _user_revoke(name: Name, data: Data = None, app: App = "default", config: ConfigFile = None) -> None:
    """Make all tokens given to a user up to now void, and end the user's sessions."""
    command = RevokeTokens(rid=1, app=app, user=name)
    _operate(data, config, lambda operate: operate(command))
    print(f"revoked the tokens of {name}")


@program.command("token")
def _token(
    name: Name,
    days: Annotated[float, typer.Option(min=0.0, help="How long it is good for.")] = TOKEN_DAYS,
    data: Data = None,
    app: App = "default",
    config: ConfigFile = None,
) -> None:
    """Print a token that lets a user in without a password.

    **Example**

    `RECEIPTS_TOKEN=$(receipts token alice --data ./data) receipts chat tcp://127.0.0.1:4000 --user alice`
    """
    command = MakeToken(rid=1, app=app, user=name, lifetime_ms=round(days * DAY_MS))
    print(_operate(data, config, lambda operate: operate(command))["text"])


# -- groups and apps


@group.command("create")
def _group_create(
    identity: Annotated[
        str, typer.Argument(metavar="ID", help="1 to 64 characters of a-z A-Z 0-9 _ . -, no user's name.")
    ],
    owner: Annotated[str, typer.Option(metavar="USER", help="Who owns it.")],
    admin: Annotated[list[str] | None, typer.Option(metavar="USER", help="An admin; may repeat.")] = None,
    member: Annotated[list[str] | None, typer.Option(metavar="USER", help="A member; may repeat.")] = None,
    name: Annotated[str, typer.Option(help="For people; the id when left out.")] = "",
    data: Data = None,
    app: App = "default",
    config: ConfigFile = None,
) -> None:
    """Open a group.

    **Example**

    `receipts group create team --owner olga --admin adam --member bob --member cara`
    """
    command = MakeGroup(
        rid=1,
        app=app,
        conversation=identity,
        name=name or identity,
        owner=owner,
        admins=tuple(admin or ()),
        members=tuple(member or ()),
    )
    _operate(data, config, lambda operate: operate(command))
    print(f"created {identity}")


@app.command("set")
def _app_set(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The app; it is made if it is not there.")],
    file: Annotated[Path, typer.Option(metavar="FILE", help="TOML, or JSON when its name ends so.")],
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """Set features and limits of an app; what the file leaves out has its default.

    The file has the tables `features`, `groups` and `limits`. A running node takes them at once. An app
    that stands in the configuration file of `serve` gets that file's settings again at the next start.

    **Example**

    `printf '[features]\\ngroup_receipts = false\\n' > small.toml; receipts app set small --file small.toml`
    """
    from .config import load_settings

    command = ConfigureApp(rid=1, app=name, settings=load_settings(file))
    _operate(data, config, lambda operate: operate(command), create=True)
    print(f"set {name}")


# -- looking behind figures


@program.command("explain")
def _explain(
    name: Annotated[str, typer.Argument(metavar="USER")],
    conversation: Annotated[str, typer.Argument(metavar="CONVERSATION", help="A group, or the other user.")],
    data: Data = None,
    app: App = "default",
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Print the messages behind somebody's unread count: first the count, then a line per message.

    **Example**

    `receipts explain bob alice --data ./data`
    """

    async def work(operate: Operate) -> dict[str, Any]:
        try:
            return await _explain_all(operate, app, name, conversation)
        except Refused as refused:
            if refused.code is not Code.UNKNOWN_CONVERSATION or not is_user_id(conversation):
                raise
            return await _explain_all(operate, app, name, direct(name, conversation))

    found = _operate(data, config, work)
    if as_json:
        print(json.dumps(found))
        return
    print(f"unread {found['unread']}" + (", marked as unread" if found["marked_unread"] else ""))
    for seq, message_id in found["messages"]:
        print(f"#{seq}\tmessage {message_id}")


async def _explain_all(operate: Operate, app: str, name: str, conversation: str) -> dict[str, Any]:
    messages: list[tuple[int, int]] = []
    while True:
        after = messages[-1][0] if messages else 0
        answer = await operate(ExplainFor(rid=1, app=app, user=name, conversation=conversation, after=after))
        messages += answer["messages"]
        if not answer["more"]:
            wanted = ("conversation", "unread", "marked_unread")
            return {**{field: answer[field] for field in wanted}, "messages": messages}


@program.command("verify")
def _verify(
    data: Data = None,
    app: Annotated[str | None, typer.Option("--app", help="Only this app's conversations.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what is found; all devices then start from the full state.")
    ] = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Recount every conversation from its messages, and compare. Exit code 1 when findings remain.

    When no node runs on the directory, the database itself is read through as well.
    """
    where = _data(data, config)
    damaged = _damage(where)
    count, findings = 0, list[dict[str, Any]]()
    if not damaged:

        async def work(operate: Operate) -> tuple[int, list[dict[str, Any]]]:
            return await verify_all(operate, app=app, repair=repair)

        count, findings = _operate(where, None, work)
    if as_json:
        print(json.dumps({"conversations": count, "damage": damaged, "findings": findings}))
    else:
        for text in damaged:
            print(f"damaged: {text}")
        for found in findings:
            whose = f" of {found['member']}" if found["member"] else ""
            mended = "repaired" if found["repaired"] else "found"
            where_found = f"{found['app']}/{found['conversation']}{whose}"
            print(f"{mended}: {where_found}: {found['detail']} ({found['invariant']})")
        print(f"verified {count} conversations, {len(findings)} findings")
    if damaged or not all(found["repaired"] for found in findings):
        raise typer.Exit(1)


def _damage(data: Path) -> list[str]:
    try:
        return problems(data)
    except StoreLocked:
        return []  # a node is running: it was sound when that was started
    except StoreCorrupt as error:
        return [str(error)]


@program.command("stats")
def _stats(data: Data = None, as_json: AsJson = False, config: ConfigFile = None) -> None:
    """Print figures of a node: life, tick, sessions, users and conversations in memory, apps."""
    figures = json.loads(_operate(data, config, lambda operate: operate(Stats(rid=1)))["text"])
    if as_json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name}\t{', '.join(figure) if isinstance(figure, list) else figure}")


@program.command("new-life")
def _new_life(data: Data = None, config: ConfigFile = None) -> None:
    """After a restore from a backup, before the node starts: begin a new life of the data.

    Devices remember what they had when the backup was already old. In a new life they drop that and take the
    full state from the node; what they have not sent yet they keep.
    """
    print(f"life {begin_new_life(_data(data, config))}")


# -- clients


@program.command("chat")
def _chat(
    url: Annotated[str, typer.Argument(metavar="URL", help="Such as tcp://127.0.0.1:4000 or ws://…")],
    name: Annotated[str, typer.Option("--user", metavar="NAME", help="Who you are.")],
    password_stdin: PasswordStdin = False,
    token: Annotated[
        str | None, typer.Option(envvar="RECEIPTS_TOKEN", metavar="TOKEN", help="Instead of a password.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="Which of your devices this is.")] = "terminal",
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE", help="Keep messages and receipts in this file.")
    ] = None,
    app: App = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines, for programs.")] = False,
    ca: Annotated[
        Path | None, typer.Option("--tls-ca", metavar="FILE", help="PEM; trust this certificate authority.")
    ] = None,
) -> None:
    """Chat in a terminal, or from a script.

    Lines that begin with / are commands (`/help` lists them), all others are sent. Updates are printed as
    they come, one line each. When stdin is a pipe, each line waits until it is done, and at the end the
    program leaves once the node has everything; its exit code is 1 if anything was refused.

    **Examples**

    `receipts chat tcp://127.0.0.1:4000 --user alice`

    `printf '/to bob\\nhello\\n' | receipts chat tcp://127.0.0.1:4000 --user alice --token $TOKEN`

    `printf '/to alice\\n/wait\\n/read\\n' | receipts chat ws://127.0.0.1:4001 --user bob --token $TOKEN`
    """
    from .chat import Chatting, chat

    if token is None and not password_stdin and not sys.stdin.isatty():
        raise Complaint("say who you are: --token TOKEN, RECEIPTS_TOKEN=TOKEN or --password-stdin", status=2)
    chatting = Chatting(
        url=url,
        user=name,
        device=device,
        app=app,
        token=None if password_stdin else token,
        password=_password(False, "Password") if token is None and not password_stdin else None,
        password_stdin=password_stdin,
        path=data,
        ca=ca,
        as_json=as_json,
    )
    if run_loop(partial(chat, chatting)):
        raise typer.Exit(1)


@program.command("demo")
def _demo(
    keep: Annotated[
        bool, typer.Option("--serve", help="Keep the node afterwards, and say how to connect.")
    ] = False,
    settings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Play in an app with these settings (see `app set`): what is missing?"
        ),
    ] = None,
    easemob: Annotated[
        bool, typer.Option("--easemob", help="Serve a page instead, on which the vendor's Web SDK chats.")
    ] = False,
    page: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="With --easemob: where the page is; port 0 means any.")
    ] = "127.0.0.1:0",
    sdk: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --easemob: the SDK's file, instead of installing it by npm."),
    ] = None,
    loop: Annotated[str | None, typer.Option(metavar="|".join(LOOPS), help="Event loop.")] = None,
) -> None:
    """Play every behaviour once, live: two users with several devices, a group, TCP and websocket at once.

    Starts a node on a fresh database in a temporary directory, and prints one line per behaviour, R1 to R13,
    with what was observed. Exit code 0 only if everything was.

    **Examples**

    `receipts demo`

    `receipts demo --serve` keeps the node, to be tried with `receipts chat`

    `receipts demo --easemob` is a page with two panes on the Easemob Web SDK
    """
    from .config import load_settings
    from .serve import default_loop

    if easemob:
        try:
            from .easemob_demo import easemob_demo
        except ModuleNotFoundError as error:
            raise Complaint(
                f"--easemob needs {error.name}: install it with `pip install 'message-receipts[easemob]'`"
            ) from None

        run_loop(partial(easemob_demo, address=page, sdk=sdk), _one_of("loop", loop or default_loop(), LOOPS))
        return
    from .demo import demo

    played = partial(demo, keep=keep, settings=load_settings(settings) if settings is not None else "{}")
    if run_loop(played, _one_of("loop", loop or default_loop(), LOOPS)):
        raise typer.Exit(1)


# -- worlds


@program.command("simulate")
def _simulate(
    seed: Annotated[int | None, typer.Option(min=0, metavar="N", help="One seed [a fresh one].")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="A..B", help="Many seeds, both inclusive.")] = None,
    events: Annotated[
        int, typer.Option(min=1, metavar="N", help="Commands, delivered frames, crashes and faults, a seed.")
    ] = SIMULATED_EVENTS,
    faults: Annotated[str, typer.Option(metavar="|".join(FAULTS), help="What goes wrong.")] = "some",
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Processes.")] = 1,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Page of a failure [receipts-seed-N.html]; its trace goes beside."),
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Do the steps of a trace instead of drawing some.")
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Go through all seeds, whatever fails.")
    ] = False,
    shrink_seconds: Annotated[
        float, typer.Option(min=0.0, metavar="S", help="How long to look for a shorter trace of a failure.")
    ] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Put the machine, the node and the client to the test in simulated worlds.

    One seed is one world: users with several devices, links that break, disks that lose what was not synced,
    clocks that are wrong, crashes anywhere. After every step all that must hold is checked; in the end
    everything is mended, and all must agree. Exit code 1 when something did not hold: then a short trace and
    a page with a diagram are written.

    **Examples**

    `receipts simulate`

    `receipts simulate --seeds 1..200 --events 2000 --faults cruel --jobs 2`

    `receipts simulate --replay receipts-seed-7.trace --report again.html`
    """
    from .simulate import Simulating, fresh_seed, play_again, seeds_of, simulate

    if replay is not None:
        if seed is not None or seeds is not None:
            raise Complaint("a trace has no seed: leave --seed and --seeds out, or --replay", status=2)
        held = play_again(replay, report=report, as_json=as_json)
    else:
        if seed is not None and seeds is not None:
            raise Complaint("--seed and --seeds exclude each other", status=2)
        wanted = fresh_seed() if seed is None else seed
        held = simulate(
            Simulating(
                seeds=seeds_of(seeds) if seeds is not None else range(wanted, wanted + 1),
                events=events,
                faults=_one_of("faults", faults, FAULTS),
                jobs=jobs,
                keep_going=keep_going,
                report=report,
                shrink_seconds=shrink_seconds,
                as_json=as_json,
            )
        )
    if not held:
        raise typer.Exit(1)
