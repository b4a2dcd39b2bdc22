"""Detect in a folder with Ray Data on this machine: python ray_run.py MODEL FOLDER OUTPUT [KILL].

With KILL, a file that does not exist, the first actor that gets a batch kills itself. Exits with 3 if Ray itself does
not start.
"""

import os
import signal
import sys

import ray
import ray.data

from varifocal.ray import Detector


class Killing(Detector):
    """Ends the process of the first batch; ``marker`` is the file that is made then."""

    def __init__(self, model, marker):
        super().__init__(model, score_threshold=0.0)
        self.marker = marker

    def __call__(self, batch):
        try:
            os.close(os.open(self.marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return super().__call__(batch)
        os.kill(os.getpid(), signal.SIGKILL)


def main(model, folder, output, marker=None):
    try:
        ray.init(num_cpus=2, _node_ip_address="127.0.0.1", include_dashboard=False, object_store_memory=100 << 20)
    except Exception as error:
        print(f"Ray does not start: {error}", file=sys.stderr)
        sys.exit(3)
    words = [model] if marker is None else [model, marker]
    images = ray.data.read_binary_files(folder, include_paths=True, override_num_blocks=4)
    found = images.map_batches(
        Detector if marker is None else Killing,
        fn_constructor_args=words,
        fn_constructor_kwargs={"score_threshold": 0.0} if marker is None else {},
        batch_format="pyarrow",
        batch_size=4,
        compute=ray.data.ActorPoolStrategy(size=2),
        num_cpus=0.5,
    )
    found.write_parquet(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
