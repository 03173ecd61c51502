"""Tables as data: a view is a list of columns, a column is a title and a function from a row to its cell. Pure.

Everything a cell shows may have come from the network (a Call-ID, a From, an SDP), so every cell passes `printable`:
no escape sequence of a stranger reaches the terminal. JSON output does not come through here.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from tabulate import tabulate

from proxy.control.node_schema import PlannedMoveInfo
from proxy.control.schema import NodeInfo, PartyDetail, SessionDetail, SessionInfo, Stats, StreamDetail, short_id

RowT = TypeVar("RowT")
SHORTEST_ID = 8
SHORT_TEXT = 24
SHORT_CALL_ID = 12


@dataclass(frozen=True)
class Column(Generic[RowT]):
    """`cell` gives the text; `right` aligns numbers; `wide` and `narrow` show the column only with/without --wide."""

    title: str
    cell: Callable[[RowT], str]
    right: bool = False
    wide: bool = False
    narrow: bool = False


def printable(text: str) -> str:
    """The text with control and other unprintable characters as \\xNN escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shorten(text: str, length: int) -> str:
    """At most `length` characters, the last one an ellipsis when something was cut."""
    return text if len(text) <= length else text[: length - 1] + "…"


def span(seconds: float | None) -> str:
    """A length of time with its two largest units: 7s, 2m05s, 3h12m, 4d03h; "-" for None."""
    if seconds is None:
        return "-"
    whole = max(0, int(seconds))
    for size, unit, small, small_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // small:02d}{small_unit}"
    return f"{whole}s"


def number(value: float | None) -> str:
    """An integer or a one-decimal number; "-" for None."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.1f}"


def party_name(address: str) -> str:
    """The user of a SIP URI for narrow tables, else the text: "sip:1000@a.b;x=y" -> "1000"."""
    scheme, colon, rest = address.partition(":")
    user, at, _ = rest.partition("@")
    if colon and scheme.lower() in ("sip", "sips"):
        return user if at and user else rest.partition(";")[0]
    return address


def packets(info: SessionInfo) -> str:
    """Received from the caller / from the callee."""
    return f"{number(info.packets.caller)}/{number(info.packets.callee)}"


def codecs(info: SessionInfo) -> str:
    """The codec chain; the usual clock rate is left out: "PCMA", "PCMA>opus/48000"."""
    return ">".join(codec.removesuffix("/8000") for codec in info.codecs) or "-"


def state(info: SessionInfo) -> str:
    """The state, and what is more urgent: lost, held."""
    if info.lost:
        return "lost"
    return f"{info.state} hold" if info.hold else info.state


@dataclass(frozen=True)
class SessionRow:
    """A session with the id the table shows for it."""

    short: str
    info: SessionInfo


SESSION_COLUMNS: Sequence[Column[SessionRow]] = (
    Column("ID", lambda row: row.short, narrow=True),
    Column("ID", lambda row: row.info.id, wide=True),
    Column("STATE", lambda row: state(row.info)),
    Column("HOLD", lambda row: row.info.hold or "-", wide=True),
    Column("CALLER", lambda row: shorten(party_name(row.info.caller), SHORT_TEXT) or "-", narrow=True),
    Column("CALLER", lambda row: row.info.caller or "-", wide=True),
    Column("CALLEE", lambda row: shorten(party_name(row.info.callee), SHORT_TEXT) or "-", narrow=True),
    Column("CALLEE", lambda row: row.info.callee or "-", wide=True),
    Column("NODE", lambda row: row.info.node or "-"),
    Column("AGE", lambda row: span(row.info.age_s), right=True),
    Column("CODECS", lambda row: codecs(row.info)),
    Column("PACKETS a>/b>", lambda row: packets(row.info), right=True),
    Column("SAMPLE", lambda row: span(row.info.sample_age_s), right=True),
    Column("CALL-IDS", lambda row: "  ".join(shorten(c, SHORT_CALL_ID) for c in row.info.call_ids), narrow=True),
    Column("CALL-IDS", lambda row: "  ".join(row.info.call_ids), wide=True),
)

NODE_COLUMNS: Sequence[Column[NodeInfo]] = (
    Column("NODE", lambda node: node.name),
    Column("ADDRESS", lambda node: node.address),
    Column("STATE", lambda node: f"{node.state} leaving" if node.leaving else node.state),
    Column("WANTED", lambda node: node.admin or "-"),
    Column("SESSIONS", lambda node: number(node.sessions), right=True),
    Column("ON NODE", lambda node: number(node.node_sessions), right=True),
    Column("OWED", lambda node: number(node.owed), right=True),
    Column("CANARY", lambda node: node.canary or "-"),
    Column("RTT ms", lambda node: number(node.rtt_ms), right=True),
    Column("UPTIME", lambda node: span(node.uptime_s), right=True),
    Column("PORTS FREE", lambda node: number(node.ports_free), right=True),
    Column("USED", lambda node: number(node.ports_used), right=True),
    Column("OFFERS", lambda node: number(node.offers), right=True),
    Column("ANSWERS", lambda node: number(node.answers), right=True),
    Column("DELETES", lambda node: number(node.deletes), right=True),
    Column("ERRORS", lambda node: number(node.errors), right=True),
    Column("FAILURES", lambda node: number(node.failures), right=True),
    Column("AS OF", lambda node: span(node.statistics_age_s), right=True),
)


@dataclass(frozen=True)
class StreamRow:
    """A stream and whose it is."""

    party: PartyDetail
    stream: StreamDetail


STREAM_COLUMNS: Sequence[Column[StreamRow]] = (
    Column("PARTY", lambda row: row.party.role + (f" ({row.party.leg})" if row.party.leg else "")),
    Column("TAG", lambda row: row.party.tag, wide=True),
    Column("#", lambda row: str(row.stream.media)),
    Column("STREAM", lambda row: f"{row.stream.kind} {row.stream.component}".strip()),
    Column("LOCAL", lambda row: row.stream.local or "-"),
    Column("ADVERTISED", lambda row: row.stream.advertised or "-"),
    Column("LEARNED", lambda row: row.stream.learned or "-"),
    Column("PACKETS", lambda row: number(row.stream.packets), right=True),
    Column("BYTES", lambda row: number(row.stream.bytes), right=True),
    Column("ERRORS", lambda row: number(row.stream.errors), right=True),
    Column("LAST", lambda row: span(row.stream.idle_s), right=True),
    Column("CODEC", lambda row: row.stream.codec or "-"),
    Column("CRYPTO", lambda row: row.stream.crypto or "-"),
    Column("FLAGS", lambda row: ", ".join(row.stream.flags)),
)


def table(columns: Iterable[Column[RowT]], rows: Sequence[RowT], wide: bool = False) -> str:
    """The rows under the titles, without trailing spaces."""
    shown = [column for column in columns if not (column.narrow if wide else column.wide)]
    cells = [[printable(column.cell(row)) for column in shown] for row in rows]
    # The titles are a row like the others: tabulate pads real headers by two more characters.
    text = tabulate(
        [[column.title for column in shown], *cells],
        tablefmt="plain",
        disable_numparse=True,
        colalign=["right" if column.right else "left" for column in shown],
    )
    return "\n".join(line.rstrip() for line in text.splitlines())


def short_ids(ids: Sequence[str]) -> list[str]:
    """A beginning of each id (without the instance's name) that is unique in the list; at least 8 characters.

    As long for all of them as the two most alike need, so that the column stays even.
    """
    names = [short_id(one) for one in ids]
    longest = max(map(len, names), default=0)
    length = SHORTEST_ID
    while length < longest and len({name[:length] for name in names}) < len(names):
        length += 1
    return [name[:length] for name in names]


def sessions_view(sessions: Sequence[SessionInfo], wide: bool = False) -> str:
    """`mediactl ls`: oldest first, so that the newest stands above the prompt."""
    ordered = sorted(sessions, key=lambda info: info.created)
    shorts = short_ids([info.id for info in ordered])
    return table(SESSION_COLUMNS, [SessionRow(*pair) for pair in zip(shorts, ordered, strict=True)], wide)


def nodes_view(nodes: Sequence[NodeInfo]) -> str:
    """`mediactl nodes`: the table, then why a node is not up, and the last error of each node that has one."""
    lines = [table(NODE_COLUMNS, nodes)]
    lines += [printable(f"{node.name} is {node.state}: {node.why}") for node in nodes if node.why]
    lines += [printable(f"{node.name}: {node.last_error}") for node in nodes if node.last_error]
    return "\n".join(lines)


PLAN_COLUMNS: Sequence[Column[PlannedMoveInfo]] = (
    Column("SESSION", lambda move: move.session),
    Column("TO", lambda move: move.to or "nowhere"),
    Column("NOTE", lambda move: move.note),
)


def plan_view(plan: Sequence[PlannedMoveInfo]) -> str:
    """`mediactl node drain --evacuate --dry-run`: the calls, in the order in which they would move."""
    return "\n".join([table(PLAN_COLUMNS, plan), f"{len(plan)} calls would be moved"])


def stats_view(stats: Stats) -> str:
    """`mediactl stats`: name and value, by name."""
    width = max(map(len, stats), default=0)
    return "\n".join(f"{printable(name):<{width}}  {number(value)}" for name, value in sorted(stats.items()))


def detail_view(detail: SessionDetail, verdict: str | None, wide: bool = False) -> str:
    """`mediactl show`: the session, both legs, every stream, the timeline, the verdict."""
    info = detail.session
    lines = [
        f"session   {info.id}",
        f"state     {state(info)}, {span(info.age_s)} old, on node {info.node or '-'}",
        f"caller    {info.caller or '-'}",
        f"callee    {info.callee or '-'}",
        f"codecs    {codecs(info)}",
    ]
    for leg in info.legs:
        facts = [leg.profile, leg.interface and f"interface {leg.interface}", leg.media and f"SDP {leg.media}"]
        facts.append(leg.received and f"received from {leg.received}")
        lines.append(f"leg {leg.name:<5} {leg.call_id}  ({', '.join(filter(None, (*facts, f'tag {leg.party}')))})")
    lines = [printable(line) for line in lines]
    rows = [StreamRow(party, stream) for party in detail.parties for stream in party.streams]
    if rows:
        lines += ["", table(STREAM_COLUMNS, rows, wide)]
    if detail.node_error:
        lines += ["", printable(detail.node_error)]
    if detail.timeline:
        lines += ["", *(printable(f"{clock_time(event.at)}  {event.text}") for event in detail.timeline)]
    if verdict:
        lines += ["", printable(f"verdict: {verdict}")]
    return "\n".join(lines)


def clock_time(epoch: float) -> str:
    """Local time of day with milliseconds."""
    return datetime.fromtimestamp(epoch).strftime("%H:%M:%S.%f")[:-3]
