"""What the README promises exists: files it links, make targets it names, and a routing script that loads."""

import re
import subprocess
from pathlib import Path

from proxy.routing import is_stateless, load_script


def test_linked_files_exist(repository: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (repository / "README.md").read_text())
    assert links
    assert [link for link in links if not (repository / link).exists()] == []


def test_named_targets_exist(repository: Path) -> None:
    named = set(re.findall(r"^    make ([a-z]+)", (repository / "README.md").read_text(), re.MULTILINE))
    listed = subprocess.run(["make"], cwd=repository, capture_output=True, text=True).stdout
    assert named >= {"demo", "test", "lab", "bench"}
    assert named <= set(re.findall(r"^  make ([a-z]+)", listed, re.MULTILINE))


def test_its_routing_scripts_load(repository: Path, tmp_path: Path) -> None:
    scripts = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    assert len(scripts) == 2
    for number, script in enumerate(scripts):
        (tmp_path / f"route{number}.py").write_text(script)
    loaded = [load_script(tmp_path / f"route{number}.py") for number in (0, 1)]
    assert [is_stateless(one) for one in loaded] == [False, True]
