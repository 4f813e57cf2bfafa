"""Set-up, launch, training and evaluation: what the files in tools/ call."""

from .cli import argument_parser, readable_errors
from .launch import check_workers, launch
from .setup import load_config, setup
from .trainer import REGTrainer, evaluate_checkpoint

__all__ = [
    "REGTrainer",
    "argument_parser",
    "check_workers",
    "evaluate_checkpoint",
    "launch",
    "load_config",
    "readable_errors",
    "setup",
]
