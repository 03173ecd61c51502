"""The example FreeSWITCH configuration: well formed, complete in itself, and with the settings the edge relies on.

FreeSWITCH itself is not needed: the files are read as XML, includes and variables resolved as FreeSWITCH's
preprocessor does.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

CONFIG = Path(__file__).parents[2] / "lab" / "freeswitch"


def expand(path: Path, variables: dict[str, str]) -> str:
    """A file with its X-PRE-PROCESS directives carried out; the names of included files are relative to the including
    one."""
    text = (
        re.sub(r"\$\$\{(\w+)\}", lambda found: variables[found[1]], path.read_text())
        if path.name != "vars.xml"
        else path.read_text()
    )

    def directive(found: re.Match[str]) -> str:
        command, data = found[1], found[2]
        if command == "set":
            name, _, value = data.partition("=")
            variables[name] = value
            return ""
        assert command == "include", command
        files = sorted(path.parent.glob(data))
        assert files, f"{path.name} includes {data}, which is not there"
        return "".join(re.sub(r"</?include>|<\?xml.*?\?>", "", expand(file, variables)) for file in files)

    return re.sub(r'<X-PRE-PROCESS cmd="([^"]+)" data="([^"]+)"/>', directive, text)


@pytest.fixture(name="document")
def _document() -> ElementTree.Element:
    return ElementTree.fromstring(expand(CONFIG / "freeswitch.xml", {}).replace('<?xml version="1.0"?>', "").strip())


def params(document: ElementTree.Element, where: str) -> dict[str, str]:
    """The param elements below a path."""
    found = document.find(where)
    assert found is not None, where
    return {param.attrib["name"]: param.attrib["value"] for param in found.iter("param")}


@pytest.mark.parametrize("path", sorted(CONFIG.rglob("*.xml")), ids=lambda path: str(path.relative_to(CONFIG)))
def test_well_formed(path: Path) -> None:
    ElementTree.fromstring(path.read_text())


def test_profile(document: ElementTree.Element) -> None:
    profile = params(document, ".//profile[@name='b2bua']")
    assert profile["enable-3pcc"] == "proxy"
    assert profile["inbound-use-callid-as-uuid"] == profile["outbound-use-uuid-as-callid"] == "true"
    assert profile["sip-port"] == "5060"
    assert profile["apply-inbound-acl"] == "edge"
    assert profile.get("enable-soa", "true") == "true"
    assert not {"disable-hold", "resume-media-on-hold", "inbound-proxy-media"} & set(profile)
    assert document.find(f".//context[@name='{profile['context']}']") is not None


def test_event_socket_is_closed_to_strangers(document: ElementTree.Element) -> None:
    socket = params(document, ".//configuration[@name='event_socket.conf']")
    assert socket["listen-ip"] not in ("0.0.0.0", "::")
    assert socket["password"] not in ("", "ClueCon")
    acl = document.find(f".//list[@name='{socket['apply-inbound-acl']}']")
    assert acl is not None
    assert acl.attrib["default"] == "deny"


def test_dialplan(document: ElementTree.Element) -> None:
    extension = document.find(".//extension[@name='b2bua']")
    assert extension is not None
    actions = [(action.attrib["application"], action.attrib["data"]) for action in extension.iter("action")]
    settings = dict(data.split("=", 1) for application, data in actions if application == "set")
    assert settings["bypass_media"] == "true"
    assert settings["sip_copy_custom_headers"] == "false"
    assert re.fullmatch(r"\$\{sip_network_ip\}:\d+", settings["sendto"]), (
        "leg B needs a port, or it arrives on the public socket"
    )
    assert float(settings["call_timeout"]) > 0
    assert ("export", "nolocal:sip_h_X-PGPX=${uuid}") in actions
    assert actions[-1] == ("bridge", "sofia/b2bua/$1@${sendto}")
    assert "proxy_media" not in settings


def test_a_transfer_names_the_number_alone(document: ElementTree.Element) -> None:
    """1.10.12 looks up the user of Refer-To; only a call that was transferred may come without the prefix."""
    names = [extension.attrib["name"] for extension in document.iter("extension")]
    assert names == ["b2bua", "transfer", "nothing-else"]
    transfer = document.find(".//extension[@name='transfer']")
    assert transfer is not None
    conditions = {one.attrib["field"]: one.attrib["expression"] for one in transfer.iter("condition")}
    assert re.search(conditions["${transfer_source}"], "1764000000:1f2e:bl_xfer:3000/b2bua/XML")
    assert not re.search(conditions["${transfer_source}"], "")
    assert re.fullmatch(conditions["destination_number"], "3000")
    assert not re.search(conditions["destination_number"], "b2bua-3000"), "it would be transferred for ever"
    action = transfer.find(".//action")
    assert action is not None
    assert action.attrib == {"application": "transfer", "data": "b2bua-$1"}


def test_every_configured_module_is_loaded(document: ElementTree.Element) -> None:
    loaded = {load.attrib["module"] for load in document.iter("load")}
    wanted = {
        "sofia.conf": "mod_sofia",
        "event_socket.conf": "mod_event_socket",
        "console.conf": "mod_console",
        "logfile.conf": "mod_logfile",
    }
    for name in (configuration.attrib["name"] for configuration in document.iter("configuration")):
        assert wanted.get(name, "mod_sofia") in loaded
    assert {"mod_dptools", "mod_dialplan_xml", "mod_commands"} <= loaded
