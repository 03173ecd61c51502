"""The configuration: what loads, and for everything that does not, the one sentence it is refused with."""

import ast
import inspect
import itertools
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy import config as config_module
from proxy.config import Config, ConfigError, Section, describe, load

ROOT = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data" / "config"

LISTEN = '[[listen]]\nname = "public"\naddress = "198.51.100.1"\n'
LAN = '[[listen]]\nname = "lan"\nside = "lan"\naddress = "10.20.0.1"\nport = 5080\n'
FS = '[[freeswitch]]\nname = "fs1"\naddress = "10.20.0.2"\n'
NODE = '[[rtpengine]]\nname = "node1"\naddress = "127.0.0.1:2223"\n'

SECTIONS = {"{listen}\n": LISTEN, "{lan}\n": LAN, "{freeswitch}\n": FS, "{rtpengine}\n": NODE}


def refused() -> list[tuple[str, str]]:
    """(what the file says, the sentence without the file's path) of every block in refused.txt."""
    cases = []
    for block in re.split(r"^=== ", (DATA / "refused.txt").read_text(), flags=re.MULTILINE)[1:]:
        sentence, _, text = block.partition("\n")
        for placeholder, section in SECTIONS.items():
            text = text.replace(placeholder, section)
        cases.append((text.removesuffix("\n"), sentence))
    return cases


@pytest.mark.parametrize(("text", "sentence"), refused(), ids=lambda value: re.sub(r"[^\w. ]", "", value)[:60])
def test_one_sentence_for_each_fault(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "edge.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    got = str(caught.value)
    if not sentence.startswith("line "):  # the key is not in the file: only its section has a line, if anything
        got = re.sub(r", line \d+: ", ": ", got)
        assert got == f"{path}: {sentence}"
    else:
        assert got == f"{path}, {sentence}"
    assert "\n" not in got


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "none.toml")
    sentence = "cannot be read: no such file or directory; give the path of a configuration file."
    assert str(caught.value) == f"{tmp_path}/none.toml {sentence}"
    with pytest.raises(ConfigError, match=r"cannot be read: is a directory; give"):
        load(tmp_path)


def test_a_file_in_another_encoding() -> None:
    with pytest.raises(ConfigError) as caught:
        load(DATA / "latin1.toml")
    assert str(caught.value) == f"{DATA}/latin1.toml, line 1: not UTF-8 text; save the file as UTF-8."


def test_minimal() -> None:
    config = load(DATA / "minimal.toml")
    assert config.proxy.media is False, "no rtpengine, so nothing is anchored"
    assert config.proxy.control == "/run/mediactl/control.sock"
    assert config.carrier is None
    assert (config.listen[0].port, config.listen[0].side) == (5060, "public")


def test_full_has_every_key_and_no_default() -> None:
    config = load(DATA / "full.toml")
    for section in sections(config):
        for field in msgspec.structs.fields(section):
            if field.default is not msgspec.NODEFAULT and (type(section), field.name) not in {
                (config_module.RtpengineConfig, "weight"),  # of two nodes, one has the default
                (config_module.ListenConfig, "side"),
            }:
                assert getattr(section, field.name) != field.default, f"{type(section).__name__}.{field.name}"
    assert config.proxy.route == str(DATA / "route.py")
    assert config.proxy.control == str(DATA / "run/control.sock")
    assert config.proxy.domains == ("example.test", "sip.example.test")
    assert config.proxy.media is True


def test_the_carriers_host_is_its_address_unless_told(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(LISTEN + "[carrier]\nuri = 'sip:203.0.113.77:5070'\n")
    carrier = load(tmp_path / "a.toml").carrier
    assert carrier is not None
    assert carrier.addresses == ("203.0.113.77",)


def test_the_example_loads_and_is_described() -> None:
    config = load(ROOT / "examples" / "edge.toml")
    text = describe(config)
    assert text.splitlines()[:3] == [
        "instance edge1, control socket /run/mediactl/control.sock, log level info",
        "listen public: public side, udp 198.51.100.1:5060",
        "listen lan: lan side, udp 10.20.0.1:5080",
    ]
    for expected in (
        "freeswitch fs2: 10.20.0.3:5060, numbers prefixed 'b2bua-'",
        "rtpengine node1: 127.0.0.1:2223, weight 1",
        "media: interfaces pub (public) and lan (lan), sampled every 30 s, silent after 90 s",
        "user 1000: sip:1000@203.0.113.9:5060",
        "carrier: sip:203.0.113.77:5060, calls from 203.0.113.77",
    ):
        assert expected in text


def test_a_secret_is_not_described() -> None:
    text = describe(load(DATA / "full.toml"))
    assert "secret from the file" in text
    assert "staple" not in text


def test_the_store_is_described(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    path.write_text(LISTEN + '[store]\npath = "state"\n')
    text = describe(load(path))
    assert f"store: {tmp_path}/state/edge1.db\n" in text
    assert f"record-route tokens: secret kept in {tmp_path}/state/edge1.secret" in text
    assert "store: none, live calls end with the proxy" in describe(load(DATA / "full.toml"))
    assert "store: /var/lib/mediactl/edge1.db" in describe(load(DATA / "minimal.toml"))
    assert not (tmp_path / "state").exists(), "checking makes nothing"


def test_a_store_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "edge.toml"
    monkeypatch.setattr("os.access", lambda folder, mode: False)
    for state, what in (("", "cannot be written"), ("/a/b", f"cannot be made in {tmp_path}")):
        path.write_text(f'{LISTEN}[store]\npath = "{tmp_path}{state}"\n')
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert f"store.path is {tmp_path}{state}, which {what} by this user; change its owner" in str(caught.value)


def test_a_config_cannot_be_changed() -> None:
    config = load(DATA / "minimal.toml")
    with pytest.raises(AttributeError):
        config.proxy.instance = "other"  # type: ignore[misc]


def test_every_field_is_documented_in_the_code_and_in_the_reference() -> None:
    tree = ast.parse(inspect.getsource(config_module))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    reference = (ROOT / "docs" / "configuration.md").read_text()
    headings: dict[str, type[Section]] = {
        "proxy": config_module.ProxyConfig,
        "listen": config_module.ListenConfig,
        "freeswitch": config_module.FreeswitchConfig,
        "rtpengine": config_module.RtpengineConfig,
        "dispatch": config_module.DispatchConfig,
        "media": config_module.MediaConfig,
        "nodes": config_module.NodesConfig,
        "users": config_module.UserConfig,
        "carrier": config_module.CarrierConfig,
        "timers": config_module.TimerConfig,
        "registrar": config_module.RegistrarConfig,
        "store": config_module.StoreConfig,
    }
    assert set(headings) == set(Config.__struct_fields__)
    for section, struct in headings.items():
        body = classes[struct.__name__].body
        documented = {
            before.target.id
            for before, after in itertools.pairwise(body)
            if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and isinstance(after, ast.Expr)
        }
        assert documented == set(struct.__struct_fields__), struct.__name__
        part = re.search(rf"^## `\[+{section}\]+`.*?(?=^## |\Z)", reference, re.MULTILINE | re.DOTALL)
        assert part, f"docs/configuration.md has no section for {section}"
        rows = dict(re.findall(r"^\| `(\w+)` \| .*? \| (.*?) \|", part[0], re.MULTILINE))
        assert set(rows) == set(struct.__struct_fields__), section
        for field in msgspec.structs.fields(struct):
            assert rows[field.name] == default_in_words(field.default), f"{section}.{field.name}"


def default_in_words(default: Any) -> str:
    if default is msgspec.NODEFAULT:
        return "required"
    if default is None or default == ():
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f'`"{default}"`' if isinstance(default, str) else f"`{default}`"


def sections(config: Config) -> list[Section]:
    found: list[Section] = []
    for name in config.__struct_fields__:
        value = getattr(config, name)
        found += value if isinstance(value, tuple) else [value]
    return found
