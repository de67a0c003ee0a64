"""What a trained model uses and does, measured at the end of a run: `probes=[stream]` writes it into summary.json.

The module of a probe's name has `measure(model, data)`, which returns numbers in lists and dicts, as JSON has them.
"""

import importlib
from typing import Any

from timemachine.config import Probe
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch


def run(probes: list[Probe], model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """What each probe measured, under its name."""
    model.eval()
    return {
        probe.name: importlib.import_module(f"timemachine.probes.{probe.name}").measure(model, data) for probe in probes
    }
