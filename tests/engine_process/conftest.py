"""What needs an engine needs torch."""

from __future__ import annotations

import importlib.util

_NEED_IT = ["test_client.py", "test_faults.py", "test_replica_faults.py"]
collect_ignore = [] if importlib.util.find_spec("torch") else _NEED_IT
