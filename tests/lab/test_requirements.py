"""Missing parts of the machine are named; what is here is found."""

from __future__ import annotations

import pytest

from lab import namespace, requirements
from lab.namespace import LabError
from lab.nat import Nat
from lab.topology import Shape


@pytest.mark.real
def test_all_is_here() -> None:
    requirements.forget()
    assert requirements.missing(Shape(caller_nat=Nat.SYMMETRIC, callee_nat=Nat.FULL_CONE)) == []
    assert not [name for name in namespace.kernel_netns.listnetns() if "-0-probe" in name]


def test_a_missing_program_comes_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(requirements.PROGRAMS, "no-such-program", "no-such-package")
    assert requirements.missing(Shape()) == ["program no-such-program (package no-such-package)"]


def test_missing_kernel_features_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise LabError("nft refused the rules: No such file or directory")

    monkeypatch.setattr(namespace, "create", lambda _: None)
    monkeypatch.setattr(namespace, "join", lambda *_: None)
    monkeypatch.setattr(namespace, "nft", refuse)
    requirements.forget()
    [why] = requirements.missing(Shape(caller_nat=Nat.SYMMETRIC))
    assert why.startswith("kernel feature nftables NAT (symmetric): nft refused the rules")
    requirements.forget()


def test_no_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise LabError(f"cannot make network namespace {name}: Operation not permitted")

    monkeypatch.setattr(namespace, "create", refuse)
    requirements.forget()
    [why] = requirements.missing(Shape())
    assert why.startswith("kernel feature network namespaces: cannot make network namespace mlab")
    requirements.forget()
