"""What the README shows must run as it stands."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def test_python_blocks_run_one_after_the_other(tmp_path):
    (tmp_path / "train_examples").symlink_to(ROOT / "train_examples")
    code = "\n".join(blocks("python"))
    assert code.count("import rasteret_torch as rt") >= 1
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]


def test_shell_blocks_use_the_pinned_versions():
    installs = [line for block in blocks("bash") for line in block.splitlines() if "pip install" in line]
    assert len(installs) >= 2
    assert all("-c constraints.txt" in line for line in installs)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
