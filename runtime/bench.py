"""`kff-live bench`: measures this machine part by part and prints each figure beside its reference."""

import argparse
import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from kff_live.protocols.errors import UserError
from kff_live.runtime.bench_report import Row, Tell, table, to_json
from kff_live.runtime.config import Config

PARTS = ("clock", "frame", "decode", "latency", "memory", "gpu")
DEFAULT_PARTS = tuple(part for part in PARTS if part != "memory")  # which takes minutes
