"""Install trials: run the documented `pip install` commands.

Each URL and interpreter gets a fresh virtual environment; the installed package must report the
right version, commit and origin, and compute the right results (`check.py`).
"""

from ci.trial.plan import Offer, Trial, offers, trials
from ci.trial.run import Outcome, Status, TrialError, run

__all__ = ["Offer", "Outcome", "Status", "Trial", "TrialError", "offers", "run", "trials"]
