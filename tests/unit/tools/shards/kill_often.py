"""Predict a shard in a child process that is killed at a random moment, again and again until it is complete.

    python kill_often.py FOLDER TARGET KILLS

The child is forked after all imports, so that it dies in its work and not in them. Prints the number of kills.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from fake_predictor import FakePredictor

from varifocal.inference.sources import list_source
from varifocal.inference.stream import StreamOptions
from varifocal.tools.shards import part
from varifocal.tools.shards.run import PredictOptions, Target, predict_shard

part._SECONDS = 0.01


def work(items, target):
    predict_shard(FakePredictor(0.004), items, 0, target, PredictOptions(StreamOptions(calls=2)))


def main(folder, file, kills):
    items = list_source([folder]).items
    target = Target(Path(file), Path(file).with_name("run.json"), "digest", in_folder=True)
    random.seed(0)
    killed = 0
    while not target.done:
        child = os.fork()
        if child == 0:
            work(items, target)
            os._exit(0)
        if killed < int(kills):
            time.sleep(random.uniform(0.0, 0.05))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
    print(killed)


if __name__ == "__main__":
    main(*sys.argv[1:])
