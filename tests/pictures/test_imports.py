from __future__ import annotations

import subprocess
import sys


def test_pictures_and_the_work_on_them_need_no_torch() -> None:
    """In an interpreter of its own, because this one has loaded everything."""
    code = (
        "import sys, topcoat.pictures.inspection, topcoat.enhance.work, topcoat.enhance.jobs\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'scipy', 'pyarrow', 'pydantic', 'c2pa'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
