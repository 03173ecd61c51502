"""Record-Route and Route: one or two entries, loose and strict routers, proxies beyond us (RFC 3261 16.4, 16.6)."""

from __future__ import annotations

from tests.ladder import Ladder, play
from tests.world import DIRECT, TALK, World, open_world


async def test_two_record_routes_when_the_request_changes_socket(world: World) -> None:
    """The outgoing one on top, both with r2=on and ftag, as Kamailio writes them; and both are taken off again."""
    await play(world, """
        caller -> edge         INVITE sip:1000@198.51.100.1
        edge.public -> caller  100 Trying
        edge.lan -> fs         INVITE sip:b2bua-1000@10.0.0.3
            Record-Route: <sip:10.0.0.1:5080;r2=on;lr=on;ftag={ftag};t={token}>
            Record-Route: <sip:198.51.100.1;r2=on;lr=on;ftag={ftag};t={token}>
        fs -> edge             200 OK
        edge.public -> caller  200 OK
            Record-Route: <sip:10.0.0.1:5080;r2=on;lr=on;ftag={ftag};t={token}>
            Record-Route: <sip:198.51.100.1;r2=on;lr=on;ftag={ftag};t={token}>
        caller -> edge         ACK
        edge.lan -> fs         ACK sip:fs@10.0.0.3
            -Route
        fs -> edge             INFO
        edge.public -> caller  INFO sip:caller@203.0.113.8
            -Route
            -Record-Route
        caller -> edge         200 OK
        edge.lan -> fs         200 OK
        caller -> edge         BYE
        edge.lan -> fs         BYE
        fs -> edge             200 OK
        edge.public -> caller  200 OK
    """)  # fmt: skip
    await world.over()


async def test_one_record_route_on_one_socket(direct: World) -> None:
    await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
            Record-Route: <sip:198.51.100.1;lr=on;ftag={ftag};t={token}>
        callee -> edge    200 OK
        edge -> caller    200 OK
            Record-Route: <sip:198.51.100.1;lr=on;ftag={ftag};t={token}>
        caller -> edge    ACK
        edge -> callee    ACK sip:callee@203.0.113.9
            -Route
        callee -> edge    BYE
        edge -> caller    BYE sip:caller@203.0.113.8
            -Route
        caller -> edge    200 OK
        edge -> callee    200 OK
    """)  # fmt: skip
    await direct.over()


async def test_a_proxy_beyond_us_keeps_its_routes(direct: World) -> None:
    """Its Record-Route is above ours in the 200; in-dialog requests then carry it as their first Route."""
    direct.party("proxy", ("192.0.2.200", 5060))
    await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
            Record-Route: <sip:198.51.100.1;lr=on;ftag={ftag};t={token}>
        callee -> edge    200 OK
            Record-Route: <sip:192.0.2.200;lr>, <sip:198.51.100.1;lr=on;ftag={ftag};t={token}>
        edge -> caller    200 OK
        caller -> edge    ACK
        edge -> proxy     ACK sip:callee@203.0.113.9
            Route: <sip:192.0.2.200;lr>
        caller -> edge    BYE
        edge -> proxy     BYE sip:callee@203.0.113.9
            Route: <sip:192.0.2.200;lr>
        proxy -> edge     200 OK
        edge -> caller    200 OK
    """)  # fmt: skip
    await direct.over()


async def test_a_strict_router_in_front_of_us(direct: World) -> None:
    """It put our Record-Route into the Request-URI and the real one last into Route (RFC 3261 16.4)."""
    await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
            Record-Route: <sip:198.51.100.1;lr=on;ftag={ftag};t={token}>
        callee -> edge    200 OK
        edge -> caller    200 OK
        caller -> edge    ACK sip:198.51.100.1;lr=on;ftag={ftag};t={token}
            Route: <sip:callee@203.0.113.9>
        edge -> callee    ACK sip:callee@203.0.113.9
            -Route
        caller -> edge    BYE sip:198.51.100.1;lr=on;ftag={ftag};t={token}
            Route: <sip:callee@203.0.113.9>
        edge -> callee    BYE sip:callee@203.0.113.9
            -Route
        callee -> edge    200 OK
        edge -> caller    200 OK
    """)  # fmt: skip
    await direct.over()


async def test_a_strict_router_behind_us(direct: World) -> None:
    """Its Record-Route has no lr: its address becomes the Request-URI, the target the last Route (16.6 item 6)."""
    direct.party("strict", ("192.0.2.201", 5060))
    await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
            Record-Route: <sip:198.51.100.1;lr=on;ftag={ftag};t={token}>
        callee -> edge    200 OK
            Record-Route: <sip:192.0.2.201>, <sip:198.51.100.1;lr=on;ftag={ftag};t={token}>
        edge -> caller    200 OK
        caller -> edge    ACK
        edge -> strict    ACK sip:192.0.2.201
            Route: <sip:callee@203.0.113.9>
        caller -> edge    BYE
        edge -> strict    BYE sip:192.0.2.201
            Route: <sip:callee@203.0.113.9>
        strict -> edge    200 OK
        edge -> caller    200 OK
    """)  # fmt: skip
    await direct.over()


async def test_an_alias_is_followed_in_its_dialog(world: World) -> None:
    """A phone behind NAT calls: in-dialog requests go to where it was seen, and the alias does not reach it."""
    world.party("phone", ("192.0.2.20", 40112), contact=("192.168.1.7", 5060))
    await play(world, """
        phone -> edge     INVITE sip:1000@198.51.100.1
        edge -> phone     100 Trying
        edge -> fs        INVITE
            Contact: <sip:phone@192.168.1.7;alias=192.0.2.20~40112~1>
        fs -> edge        200 OK
        edge -> phone     200 OK
        phone -> edge     ACK
        edge -> fs        ACK
        fs -> edge        BYE
        edge -> phone     BYE sip:phone@192.168.1.7
        phone -> edge     200 OK
        edge -> fs        200 OK
    """)  # fmt: skip
    await world.over()


async def test_an_alias_to_an_address_never_seen_is_not_followed(world: World) -> None:
    """The Request-URI's own address is tried instead; the alias is gone nevertheless."""
    world.party("phone", ("192.0.2.20", 40112), contact=("192.168.1.7", 5060))
    world.party("victim", ("10.0.0.99", 5060))
    await play(world, """
        phone -> edge     INVITE sip:1000@198.51.100.1
        edge -> phone     100 Trying
        edge -> fs        INVITE
        fs -> edge        200 OK
        edge -> phone     200 OK
        phone -> edge     ACK
        edge -> fs        ACK
        phone -> edge     INFO sip:x@10.0.0.3;alias=10.0.0.99~5060~1
        edge -> fs        INFO sip:x@10.0.0.3
        fs -> edge        200 OK
        edge -> phone     200 OK
        phone -> edge     BYE
        edge -> fs        BYE
        fs -> edge        200 OK
        edge -> phone     200 OK
    """)  # fmt: skip
    assert world.stats["alias_refused"] == 1
    await world.over()


async def test_the_alias_of_a_callee_behind_nat(direct: World) -> None:
    """Registered from behind a NAT: called at the address it registered from; its Contact in the 200 gets the alias."""
    direct.party("phone", ("192.0.2.20", 40112), contact=("192.168.1.7", 5060))
    await play(direct, """
        phone -> edge     REGISTER sip:example.test  [R]
            To: <sip:2000@example.test>
            From: <sip:2000@example.test>;tag=r
            Expires: 600
        edge -> phone     200 OK  [R]
            Contact: <sip:phone@192.168.1.7>;expires=600
        caller -> edge    INVITE sip:2000@example.test
        edge -> caller    100 Trying
        edge -> phone     INVITE sip:phone@192.168.1.7
        phone -> edge     200 OK
        edge -> caller    200 OK
            Contact: <sip:phone@192.168.1.7;alias=192.0.2.20~40112~1>
        caller -> edge    ACK
        edge -> phone     ACK sip:phone@192.168.1.7
        caller -> edge    BYE
        edge -> phone     BYE sip:phone@192.168.1.7
        phone -> edge     200 OK
        edge -> caller    200 OK
    """)  # fmt: skip
    await direct.over()


async def test_only_the_first_of_several_contacts_gets_the_alias(world: World) -> None:
    world.party("phone", ("192.0.2.20", 40112), contact=("192.168.1.7", 5060))
    await play(world, """
        phone -> edge     MESSAGE sip:1000@198.51.100.1
            Contact: "A, B" <sip:phone@192.168.1.7>;q=1, <sip:phone@192.168.1.8>
        edge -> fs        MESSAGE
            Contact: "A, B" <sip:phone@192.168.1.7;alias=192.0.2.20~40112~1>;q=1
            Contact: <sip:phone@192.168.1.8>
        fs -> edge        200 OK
        edge -> phone     200 OK
    """)  # fmt: skip
    await world.over()


ADVERTISED = TALK.replace('address = "198.51.100.1"', 'address = "172.31.0.5"\nadvertise = "198.51.100.1:5070"')


async def test_an_advertised_address_is_what_others_see(autojump_clock: object) -> None:
    """A proxy behind a 1:1 NAT: Via and Record-Route name the outer address, and both addresses mean us."""
    async with open_world(ADVERTISED) as world:
        await play(world, """
            caller -> edge    INVITE sip:1000@198.51.100.1:5070
            edge -> caller    100 Trying
            edge -> fs        INVITE sip:b2bua-1000@10.0.0.3
                Record-Route: <sip:10.0.0.1:5080;r2=on;lr=on;ftag={ftag};t={token}>
                Record-Route: <sip:198.51.100.1:5070;r2=on;lr=on;ftag={ftag};t={token}>
            fs -> edge        200 OK
            edge -> caller    200 OK
            caller -> edge    ACK
            edge -> fs        ACK
            fs -> edge        BYE
            edge -> caller    BYE
                Via: SIP/2.0/UDP 198.51.100.1:5070;branch=*
            caller -> edge    200 OK
            edge -> fs        200 OK
            caller -> edge    MESSAGE sip:1000@172.31.0.5  [B]
            edge -> fs        MESSAGE  [B]
            fs -> edge        200 OK  [B]
            edge -> caller    200 OK  [B]
        """)  # fmt: skip
        await world.over()


THREE = (
    DIRECT
    + """
[[listen]]
name = "other"
address = "198.51.100.9"
port = 5090
"""
)


async def test_between_two_public_sockets(autojump_clock: object) -> None:
    """A phone is called from the socket it registered on, and each side sees that side's address."""
    async with open_world(THREE) as world:
        world.party("phone", ("192.0.2.20", 5060))
        await play(world, """
            phone -> edge.other     REGISTER sip:example.test  [R]
                To: <sip:2000@example.test>
                From: <sip:2000@example.test>;tag=r
            edge.other -> phone     200 OK  [R]
            caller -> edge.public   INVITE sip:2000@example.test
            edge.public -> caller   100 Trying
            edge.other -> phone     INVITE sip:phone@192.0.2.20
                Via: SIP/2.0/UDP 198.51.100.9:5090;branch=*
                Record-Route: <sip:198.51.100.9:5090;r2=on;lr=on;ftag={ftag};t={token}>
                Record-Route: <sip:198.51.100.1;r2=on;lr=on;ftag={ftag};t={token}>
            phone -> edge.other     200 OK
            edge.public -> caller   200 OK
            caller -> edge.public   ACK
            edge.other -> phone     ACK
            phone -> edge.other     BYE
            edge.public -> caller   BYE
            caller -> edge.public   200 OK
            edge.other -> phone     200 OK
        """)  # fmt: skip
        await world.over()


IPV6 = """
[proxy]
domains = ["example.test"]

[[listen]]
name = "public"
address = "2001:db8::1"

[[listen]]
name = "lan"
address = "fd00::1"
port = 5080
side = "lan"

[[freeswitch]]
name = "fs"
address = "fd00::3"
"""


async def test_ipv6_literals(autojump_clock: object) -> None:
    async with open_world(IPV6) as world:
        world.party("caller", ("2001:db8::8", 5060))
        world.party("fs", ("fd00::3", 5060))
        await play(world, """
            caller -> edge    INVITE sip:1000@[2001:db8::1]
            edge -> caller    100 Trying
            edge -> fs        INVITE sip:b2bua-1000@[fd00::3]
                Via: SIP/2.0/UDP [fd00::1]:5080;branch=z9hG4bK*
                Via: SIP/2.0/UDP [2001:db8::8];branch=*
                Record-Route: <sip:[fd00::1]:5080;r2=on;lr=on;ftag={ftag};t={token}>
                Record-Route: <sip:[2001:db8::1];r2=on;lr=on;ftag={ftag};t={token}>
            fs -> edge        200 OK
            edge -> caller    200 OK
            caller -> edge    ACK
            edge -> fs        ACK sip:fs@[fd00::3]
            fs -> edge        BYE
            edge -> caller    BYE sip:caller@[2001:db8::8]
            caller -> edge    200 OK
            edge -> fs        200 OK
        """)  # fmt: skip
        await world.over()


async def test_ipv6_behind_nat(autojump_clock: object) -> None:
    """Another spelling of the source address is no NAT; another address is, and the alias has brackets."""
    async with open_world(IPV6) as world:
        world.party("caller", ("2001:db8::8", 5060), contact=("2001:DB8:0:0::8", 5060))
        world.party("fs", ("fd00::3", 5060))
        world.party("phone", ("2001:db8::20", 40112), contact=("fd12::7", 5060))
        ladder = Ladder(world)
        await ladder.play("""
            caller -> edge    MESSAGE sip:1000@example.test
            edge -> fs        MESSAGE
                Contact: <sip:caller@[2001:DB8:0:0::8]>
            fs -> edge        200 OK
            edge -> caller    200 OK
            phone -> edge     INVITE sip:1000@example.test  [B]
            edge -> phone     100 Trying  [B]
            edge -> fs        INVITE  [B]
                Contact: <sip:phone@[fd12::7];alias=[2001:db8::20]~40112~1>
            fs -> edge        200 OK  [B]
            edge -> phone     200 OK  [B]
            phone -> edge     ACK  [B]
            edge -> fs        ACK  [B]
            fs -> edge        BYE  [B]
            edge -> phone     BYE sip:phone@[fd12::7]  [B]
            phone -> edge     200 OK  [B]
            edge -> fs        200 OK  [B]
        """)  # fmt: skip
        await world.over()
