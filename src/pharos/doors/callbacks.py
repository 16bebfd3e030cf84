"""Callbacks: a contract checked, and what a model asks for printed, when a training run starts."""

from pathlib import Path
from typing import Any

from pharos.quantity.errors import InputError


class _Report:
    """What both callbacks do once the module is there."""

    def __init__(self, contract: str | Path | None, inputs: dict[str, Any], stop: bool) -> None:
        self.contract, self.inputs, self.stop = contract, inputs, stop

    def __call__(self, module: Any) -> None:
        """Prints the summary; raises if the contract is broken and that shall stop the run.

        Raises:
            InputError: the contract is broken.
        """
        from pharos.api import summary
        from pharos.decide.verdict import BROKEN
        from pharos.testing import check_module, told

        print(summary(module, **self.inputs))
        if self.contract is None:
            return
        verdict = check_module(module, self.contract, **self.inputs)
        print(told(verdict))
        if self.stop and verdict.verdict == BROKEN:
            raise InputError("the model breaks its contract", where=str(self.contract))


def lightning_callback(contract: str | Path | None = None, *, stop: bool = True, **inputs: Any) -> Any:
    """A Lightning callback that reports when a fit starts, on the first process only.

    Args:
        contract: a contract file to hold the module against; stop: a broken one ends the run.
        inputs: ``input_size=`` or example inputs by name; the module's ``example_input_array`` if left out.

    Raises:
        InputError: Lightning is not installed.
    """
    base = _base(("lightning.pytorch.callbacks", "pytorch_lightning.callbacks"), "Callback", "lightning")
    report = _Report(contract, inputs, stop)

    class PharosCallback(base):
        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            if getattr(trainer, "is_global_zero", True):
                report(pl_module)

    return PharosCallback()


def trainer_callback(contract: str | Path | None = None, *, stop: bool = True, **inputs: Any) -> Any:
    """A callback for transformers' Trainer that reports when training starts; see `lightning_callback`.

    Raises:
        InputError: transformers is not installed.
    """
    base = _base(("transformers",), "TrainerCallback", "transformers")
    report = _Report(contract, inputs, stop)

    class PharosCallback(base):
        def on_train_begin(
            self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
        ) -> None:
            if model is not None and getattr(state, "is_world_process_zero", True):
                report(model)

    return PharosCallback()


def _base(rooms: tuple[str, ...], name: str, package: str) -> Any:
    from importlib import import_module

    for room in rooms:
        try:
            return getattr(import_module(room), name)
        except (ImportError, AttributeError):
            continue
    raise InputError(f"this callback needs {package}", hint=f"pip install {package}")
