"""A substitute for the retraining: `stand_in.py FOLDER EXIT_CODE [--child] --trigger TEXT`.

It writes a file into FOLDER, waits for the file `go` there, prints, and ends.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

folder, code = Path(sys.argv[1]), int(sys.argv[2])
if "--child" in sys.argv:
    child = subprocess.Popen(["sleep", "60"])
    (folder / "child").write_text(str(child.pid))
(folder / f"started-{os.getpid()}").write_text(
    "\n".join([*sys.argv[3:], *(f"{name}={value}" for name, value in os.environ.items())])
)
print("ten new rows")
for _ in range(6000):  # with a limit, since a failed test may not stop it
    if (folder / "go").exists():
        break
    time.sleep(0.01)
print("promoted\n")
sys.exit(code)
