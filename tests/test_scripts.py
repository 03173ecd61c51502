"""The installation scripts and the Makefile, with programs of the test's own first in PATH; nothing is installed.

Functions of `setup.sh` are tried by sourcing it: it does nothing when sourced.
"""

import os
import signal
import subprocess
from pathlib import Path

import pytest

SCRIPTS = ("scripts/setup.sh", "scripts/check.sh", "scripts/without-daemons.sh", ".ci/run")


def run(repository: Path, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    return subprocess.run(command, cwd=repository, env=env, capture_output=True, text=True, timeout=60)


def sourced(repository: Path, body: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(repository, ["bash", "-c", f"source scripts/setup.sh\n{body}"], **environment)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_executable_bash_without_syntax_errors(script: str, repository: Path) -> None:
    path = repository / script
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/usr/bin/env bash\n")
    assert run(repository, ["bash", "-n", script]).stderr == ""


def test_make_alone_lists_every_target(repository: Path) -> None:
    listed = run(repository, ["make"]).stdout
    for target in ("help", "demo", "test", "lab", "bench", "setup", "packages", "clean"):
        assert f"make {target} " in listed


@pytest.mark.parametrize(
    ("target", "arguments", "command"),
    [
        ("demo", "", "-m lab demo"),
        ("lab", "", "-m lab run --all --strict"),
        ("lab", "plain-call", "-m lab run plain-call"),
        ("bench", "--pairs 5", "-m lab.bench --pairs 5"),
        ("test", "-k nat", "scripts/check.sh -k nat"),
    ],
)
def test_targets_run_what_they_say(target: str, arguments: str, command: str, repository: Path) -> None:
    shown = run(repository, ["make", "--dry-run", target, f"ARGS={arguments}"]).stdout
    assert "scripts/setup.sh" in shown
    assert any(line.rstrip().endswith(command) for line in shown.splitlines()), shown


def test_ci_is_the_tests_and_then_the_lab(repository: Path) -> None:
    text = (repository / ".ci/run").read_text()
    assert 0 < text.index("make test") < text.index("make lab")


# -- without-daemons.sh ------------------------------------------------------------------------------------------------


def guarded(repository: Path, policy: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return run(repository, ["scripts/without-daemons.sh", *command], POLICY_RC_D=str(policy))


def test_daemons_are_forbidden_only_while_the_command_runs(repository: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    done = guarded(repository, policy, "sh", "-c", f"{policy} kamailio start; echo said $?")
    assert (done.returncode, done.stdout) == (0, "said 101\n")
    assert not policy.exists()


def test_the_policy_goes_when_the_command_fails(repository: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    assert guarded(repository, policy, "sh", "-c", f"test -x {policy} && exit 42").returncode == 42
    assert not policy.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_policy_goes_when_interrupted(number: signal.Signals, repository: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    command = ["scripts/without-daemons.sh", "sh", "-c", "echo up; exec sleep 60"]
    env = {**os.environ, "POLICY_RC_D": str(policy)}
    with subprocess.Popen(
        command, cwd=repository, env=env, stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert policy.exists()
        os.killpg(process.pid, number)
        assert process.wait(20) != 0
    assert not policy.exists()


def test_an_administrators_policy_stays(repository: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 0\n")
    done = guarded(repository, policy, "true")
    assert done.returncode == 0
    assert "is there already and stays" in done.stdout
    assert policy.read_text() == "#!/bin/sh\nexit 0\n"


def test_one_of_ours_left_by_a_kill_is_taken_over(repository: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    guarded(repository, policy, "cp", str(policy), str(tmp_path / "left"))
    (tmp_path / "left").rename(policy)
    assert guarded(repository, policy, "true").returncode == 0
    assert not policy.exists()


def test_no_permission_is_told(repository: Path, tmp_path: Path) -> None:
    done = guarded(repository, tmp_path / "no" / "policy-rc.d", "echo", "ran")
    assert done.returncode == 1
    assert "cannot write" in done.stderr
    assert "ran" not in done.stdout


# -- setup.sh ----------------------------------------------------------------------------------------------------------


def test_missing_programs_become_packages(repository: Path) -> None:
    done = sourced(repository, "have() { [[ $1 != sipp && $1 != nft ]]; }; usable_python() { :; }; missing_packages")
    assert done.stdout.split() == ["sip-tester", "nftables"]


def test_a_missing_python_is_a_package_too(repository: Path) -> None:
    done = sourced(repository, "have() { :; }; usable_python() { return 1; }; missing_packages")
    assert done.stdout.split() == ["python3", "python3-venv"]


FAKE_APT = """
apt() {{ echo "apt-get $*" >>{calls}; {behaviour}; }}
apt-get() {{ apt "$@"; }}
env() {{ while [[ $1 == *=* ]]; do shift; done; "$@"; }}
apt-cache() {{ {cache}; }}
id() {{ echo {uid}; }}
log={folder}/log
root={folder}
"""


def install(
    repository: Path, folder: Path, *, uid: int = 0, cache: str = "true", behaviour: str = "true"
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """`install_packages` with a fake apt; returns the outcome and the apt-get commands in short."""
    (folder / "scripts").mkdir()
    guard = folder / "scripts" / "without-daemons.sh"
    calls = folder / "calls"
    calls.touch()
    guard.write_text(
        f'#!/bin/bash\necho "guarded" >>{calls}\nwhile [[ $1 != apt-get ]]; do shift; done\n'
        f'echo "$*" >>{calls}\n{behaviour}\n'
    )
    guard.chmod(0o755)
    fakes = FAKE_APT.format(folder=folder, uid=uid, cache=cache, calls=calls, behaviour="true")
    done = sourced(repository, f"{fakes}\ninstall_packages kamailio sip-tester")
    return done, calls.read_text().splitlines()


def test_without_root_the_one_line_is_printed(repository: Path, tmp_path: Path) -> None:
    done, calls = install(repository, tmp_path, uid=1000)
    assert done.returncode == 1
    assert "    sudo apt-get install -y --no-install-recommends kamailio sip-tester\n" in done.stderr
    assert calls == []


def test_root_installs_under_the_guard(repository: Path, tmp_path: Path) -> None:
    done, calls = install(repository, tmp_path)
    assert done.returncode == 0
    assert calls[0] == "guarded"
    assert calls[1].endswith("install --no-install-recommends kamailio sip-tester")
    assert len(calls) == 2, "no apt-get update when the packages are known"


def test_the_lists_are_updated_when_a_package_is_unknown(repository: Path, tmp_path: Path) -> None:
    done, calls = install(repository, tmp_path, cache="false")
    assert done.returncode == 0
    assert calls[0].endswith(" update")
    assert calls[1] == "guarded"


def test_a_failed_installation_is_tried_once_more_with_new_lists(repository: Path, tmp_path: Path) -> None:
    done, calls = install(repository, tmp_path, behaviour="echo E: no space left; exit 100")
    assert done.returncode == 1
    assert [call == "guarded" or call.split()[-1] for call in calls] == [
        *(True, "sip-tester"),
        "update",
        *(True, "sip-tester"),
    ]
    assert f"apt-get install failed; the log {tmp_path}/log ends:" in done.stderr
    assert "    E: no space left" in done.stderr


def test_no_apt_is_told(repository: Path) -> None:
    done = sourced(repository, "have() { false; }; install_packages kamailio")
    assert done.returncode == 1
    assert "install by hand what brings these Debian packages: kamailio" in done.stderr


def test_no_python_is_told(repository: Path) -> None:
    done = sourced(repository, "usable_python() { return 1; }; install_venv")
    assert done.returncode == 1
    assert "no python3 of 3.11 or newer with venv and ensurepip" in done.stderr


def test_an_old_python_or_one_without_venv_is_passed_over(repository: Path, tmp_path: Path) -> None:
    for name, status in (("python3", 1), ("python3.14", 1), ("python3.13", 0)):
        fake = tmp_path / name
        fake.write_text(f"#!/bin/sh\nexit {status}\n")
        fake.chmod(0o755)
    done = sourced(repository, "usable_python", PATH=f"{tmp_path}:{os.environ['PATH']}", PYTHON="")
    assert done.stdout == f"{tmp_path}/python3.13\n"


FAKE_VENV = """
usable_python() {{ echo {folder}/python; }}
root={folder}
log={folder}/log
cd {folder}
install_venv; echo "status $?"
"""


def test_the_venv_is_made_once_and_anew_for_another_pyproject(repository: Path, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/bash\n"
        'case "$*" in\n'
        "*-V*) echo Python 3.11.2 ;;\n"
        "*venv*) mkdir -p .venv/bin; cp $0 .venv/bin/python; echo venv >>calls ;;\n"
        "*pip*) echo pip >>calls; [[ ! -e broken ]] ;;\n"
        "esac\n"
    )
    python.chmod(0o755)
    (tmp_path / "pyproject.toml").write_text("one")
    calls = tmp_path / "calls"

    def made() -> list[str]:
        calls.write_text("")
        done = sourced(repository, FAKE_VENV.format(folder=tmp_path))
        assert "status 0" in done.stdout, done.stderr
        return calls.read_text().split()

    assert made() == ["venv", "pip"]
    assert made() == []
    (tmp_path / "pyproject.toml").write_text("two")
    (tmp_path / "broken").touch()
    broken = sourced(repository, FAKE_VENV.format(folder=tmp_path))
    assert broken.returncode == 1
    assert "pip install failed; the log" in broken.stderr
    (tmp_path / "broken").unlink()
    assert made() == ["venv", "pip"]


def test_all_checks_run_and_the_failed_ones_are_named(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "check.sh").write_text((repository / "scripts" / "check.sh").read_text())
    bin_folder = tmp_path / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    for name, status in (("ruff", 0), ("mypy", 1), ("pytest", 3)):
        (bin_folder / name).write_text(f'#!/bin/sh\necho "$0 $*" >>{tmp_path}/calls\nexit {status}\n')
        (bin_folder / name).chmod(0o755)
    done = run(tmp_path, ["bash", "scripts/check.sh", "-k", "nat"])
    assert done.returncode == 1
    assert done.stderr == "test: FAILED: mypy --strict, pytest -q\n"
    calls = [line.rpartition("/")[2] for line in (tmp_path / "calls").read_text().splitlines()]
    assert calls == ["ruff check .", "ruff format --check .", "mypy --strict", "pytest -q -k nat"]
