"""The worker is what of the engine needs torch: without it, none of this is tested."""

from __future__ import annotations

import importlib.util

collect_ignore = (
    []
    if importlib.util.find_spec("torch")
    else ["test_budget.py", "test_kv_cache.py", "test_model_runner.py"]
)
