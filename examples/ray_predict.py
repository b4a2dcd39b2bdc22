"""Detect in a folder of images with Ray Data, and write the detections as Parquet.

    pip install "varifocal[ray]"
    python examples/ray_predict.py best.safetensors photos/ found/ --actors 2

On a cluster the same script runs where ``ray job submit`` or ``RAY_ADDRESS`` says; the images must be readable from all
its machines (a shared folder, or s3:// and gs:// paths, which Ray reads itself). An actor that dies is replaced and its
images are done again, so none is lost.
"""

from __future__ import annotations

import argparse

import ray
import ray.data

from varifocal.ray import Detector


def main() -> None:
    """Read, detect, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a checkpoint, an exported file or the name of published weights")
    parser.add_argument("images", help="a folder or a bucket of images")
    parser.add_argument("output", help="folder of the Parquet files")
    parser.add_argument("--actors", type=int, default=2, help="processes with a model each (%(default)s)")
    parser.add_argument("--cpus", type=float, default=0.5, help="of each actor; below 1 it leaves room to read images")
    parser.add_argument("--gpus", type=float, default=0, help="of each actor (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="images that an actor gets at once (%(default)s)")
    options = parser.parse_args()
    images = ray.data.read_binary_files(options.images, include_paths=True)
    found = images.map_batches(
        Detector,
        fn_constructor_args=[options.model],
        batch_format="pyarrow",
        batch_size=options.batch_size,
        compute=ray.data.ActorPoolStrategy(size=options.actors),
        num_cpus=options.cpus,
        num_gpus=options.gpus,
    )
    found.write_parquet(options.output)


if __name__ == "__main__":
    main()
