"""Training as tests run it: in this process, or by tools/train_net.py in one of its own."""

import os
import subprocess
import sys
from argparse import Namespace

from reg_d2.data.catalog import REPOSITORY
from reg_d2.engine import REGTrainer, setup


def configure(workspace, *options, resume=False, eval_only=False):
    config_file, base = workspace
    opts = [*base, *(str(o) for o in options)]
    return setup(Namespace(config_file=str(REPOSITORY / config_file), opts=opts, resume=resume, eval_only=eval_only))


def trainer(workspace, *options, resume=False):
    t = REGTrainer(configure(workspace, *options, resume=resume))
    t.resume_or_load(resume=resume)
    return t


def command(workspace, *flags, options=()):
    config_file, base = workspace
    return [
        *(sys.executable, "tools/train_net.py", "--config-file", config_file, *flags),
        *(*base, *(str(o) for o in options)),
    ]


def run(workspace, *flags, options=()):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(workspace, *flags, options=options), cwd=REPOSITORY, capture_output=True, text=True, env=environment
    )
