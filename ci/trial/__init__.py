"""The install trial: the documented `pip install` commands, typed by a machine.

One fresh virtual environment per URL and interpreter; what was installed has to say the right
version, commit and origin, and compute the right numbers (`check.py`).
"""

from ci.trial.plan import Cell, Offer, cells, offers
from ci.trial.run import Outcome, Status, TrialError, run

__all__ = ["Cell", "Offer", "Outcome", "Status", "TrialError", "cells", "offers", "run"]
