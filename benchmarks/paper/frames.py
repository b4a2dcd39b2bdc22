"""Render a data set of game frames with exact boxes.

    python benchmarks/paper/frames.py OUT [--train 2400] [--val 600]

Twelve kinds of actors of Freedoom in its maps, 320 x 240 pixels, rendered by ViZDoom (``pip install vizdoom==1.3.2``).
ViZDoom reports which pixel belongs to which actor; a box is the extent of an actor's pixels. Training and validation
use different maps. The same numbers and seed give the same bytes. OUT is a COCO data set.

ViZDoom is MIT and Freedoom's images are BSD; this package contains no part of either.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from varifocal.utils.progress import progress_bar

CLASSES = {
    "Zombieman": "zombie",
    "ShotgunGuy": "shotgunner",
    "ChaingunGuy": "chaingunner",
    "DoomImp": "imp",
    "Demon": "demon",
    "Cacodemon": "cacodemon",
    "HellKnight": "knight",
    "LostSoul": "soul",
    "ExplosiveBarrel": "barrel",
    "Medikit": "medikit",
    "GreenArmor": "armor",
    "TechLamp": "lamp",
}
ACTORS = list(CLASSES)
MAPS = {"train": [f"MAP{i:02d}" for i in range(1, 13)], "val": [f"MAP{i:02d}" for i in range(13, 17)]}
CHEATS = ("god", "notarget", "freeze", "noclip")
PIXELS, SIDE, FILLED = 40, 8, 0.25  # minimum for an actor: pixels, side of its box, fraction of its box
BLIND, DARK = 6, 22  # minimum median depth (else a wall fills the view), minimum mean brightness
AGAIN = 25  # views after which the map is restarted to remove summoned actors


class Frame(NamedTuple):
    """A frame: ``pixels`` [240, 320, 3] uint8, and the class (from 0) and xyxy box in whole pixels of each actor."""

    pixels: np.ndarray
    boxes: list[tuple[int, tuple[int, int, int, int]]]


@dataclass(frozen=True)
class Split:
    """A split: its name, number of frames and seed."""

    name: str
    frames: int
    seed: int


def start(seed: int) -> Any:
    """Return the game engine, without a window."""
    import vizdoom

    game = vizdoom.DoomGame()
    game.set_doom_game_path(str(Path(vizdoom.__file__).with_name("freedoom2.wad")))
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_320X240)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    for switch in ("labels_buffer_enabled", "depth_buffer_enabled", "objects_info_enabled"):
        getattr(game, f"set_{switch}")(True)
    for part in ("hud", "weapon", "crosshair", "messages", "particles"):
        getattr(game, f"set_render_{part}")(False)
    game.set_window_visible(False)
    game.set_mode(vizdoom.Mode.PLAYER)
    game.set_available_buttons([vizdoom.Button.TURN_LEFT_RIGHT_DELTA])
    game.add_game_args("+sv_cheats 1 +r_visibility 20 +cl_showsecretmessage 0")
    game.set_seed(seed)
    return game


def frames_of(game: Any, name: str, chance: random.Random) -> Iterator[Frame]:
    """Yield endless views of one map: at a random position near one of its objects, with up to two summoned actors."""
    game.set_doom_map(name)
    game.new_episode()
    prepare(game)
    places = [(thing.position_x, thing.position_y) for thing in game.get_state().objects if thing.name != "DoomPlayer"]
    tries = 0
    while True:
        tries += 1
        if tries % AGAIN == 0:
            game.new_episode()
            prepare(game)
        x, y = chance.choice(places)
        game.send_game_command(f"warp {x + chance.uniform(-200, 200):f} {y + chance.uniform(-200, 200):f}")
        game.make_action([chance.uniform(-180, 180)], 1)
        for _ in range(chance.randint(0, 2)):
            game.send_game_command(f"summon {chance.choice(ACTORS)}")
            game.make_action([chance.uniform(-30, 30)], 1)
        game.make_action([chance.uniform(-10, 10)], 1)
        state = game.get_state()
        if state is None:
            game.new_episode()
            prepare(game)
        elif np.median(state.depth_buffer) >= BLIND and state.screen_buffer.mean() >= DARK:
            boxes = boxes_of(state)
            if boxes:
                yield Frame(state.screen_buffer.copy(), boxes)


def prepare(game: Any) -> None:
    """Freeze all actors and turn off collisions."""
    for word in CHEATS:
        game.send_game_command(word)
    game.advance_action(2)


def boxes_of(state: Any) -> list[tuple[int, tuple[int, int, int, int]]]:
    """Return the class and box of every actor that is visible enough."""
    found = []
    for label in state.labels:
        if label.object_name not in CLASSES:
            continue
        ys, xs = np.nonzero(state.labels_buffer == label.value)
        if len(xs) < PIXELS:
            continue
        box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
        width, height = box[2] - box[0], box[3] - box[1]
        if min(width, height) >= SIDE and len(xs) >= FILLED * width * height:
            found.append((ACTORS.index(label.object_name), box))
    return found


def write_split(split: Split, out: Path) -> int:
    """Write the frames and ``instances_NAME.json``; return the number of boxes."""
    folder = out / "images" / split.name
    folder.mkdir(parents=True)
    chance = random.Random(split.seed)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    game = start(split.seed)
    game.set_doom_map(MAPS[split.name][0])
    game.init()
    with progress_bar(split.name, split.frames) as advance:
        for place, name in enumerate(MAPS[split.name]):
            views = frames_of(game, name, chance)
            share = split.frames * (place + 1) // len(MAPS[split.name])
            while len(images) < share:
                frame = next(views)
                file = f"{name}_{len(images):05d}.png"
                Image.fromarray(frame.pixels).save(folder / file)
                images.append({"id": len(images) + 1, "file_name": file, "width": 320, "height": 240})
                for label, (x1, y1, x2, y2) in frame.boxes:
                    sides = (x2 - x1, y2 - y1)
                    annotations.append(
                        {
                            "id": len(annotations) + 1,
                            "image_id": len(images),
                            "category_id": label + 1,
                            "bbox": [x1, y1, *sides],
                            "area": sides[0] * sides[1],
                            "iscrowd": 0,
                        }
                    )
                advance(len(images))
    game.close()
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES.values())]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (out / "annotations").mkdir(exist_ok=True)
    (out / "annotations" / f"instances_{split.name}.json").write_text(json.dumps(content), encoding="utf-8")
    return len(annotations)


def main() -> None:
    """Write both splits into a new folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=2400)
    parser.add_argument("--val", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.out.exists():
        raise SystemExit(f"{options.out}: already exists; remove it or choose another folder.")
    beside = options.out.with_name(f"{options.out.name}.part")
    for split in (Split("train", options.train, options.seed), Split("val", options.val, options.seed + 1)):
        print(f"{split.name}: {split.frames} frames, {write_split(split, beside)} boxes")
    beside.rename(options.out)


if __name__ == "__main__":
    main()
