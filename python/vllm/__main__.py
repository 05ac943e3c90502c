"""``python -m vllm`` is the ``vllm`` command."""

from __future__ import annotations

import sys

from vllm.entrypoints.cli import main

sys.exit(main())
