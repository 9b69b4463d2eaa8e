from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def test_the_dockerfile_is_clean_and_the_container_has_no_root() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    users = [line for line in lines if line.startswith("USER ")]
    assert users == ["USER 10001:10001"] and any(line.startswith("HEALTHCHECK ") for line in lines)


def test_what_the_compose_file_starts_asks_for_a_key() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert set(services) == {"cpu", "cuda"}
    for service in services.values():
        assert "--api-key-file" in service["command"] and service["ports"] == ["127.0.0.1:8000:8000"]
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
