"""What needs an engine needs torch."""

from __future__ import annotations

import importlib.util

collect_ignore = [] if importlib.util.find_spec("torch") else ["test_client.py", "test_faults.py"]
