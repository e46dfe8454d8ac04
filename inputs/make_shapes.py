#!/usr/bin/env python3
"""Make inputs/shapes.h5: pictures that shapes-vlm has not seen, questions about them, the answers.

A prompt file (src/data/FORMATS.md) with three more columns for whoever checks the results: `answer`,
`class` (of the question) and `id`, which says what is special about a row:

    ...-large   the picture is larger than the model's 60 x 60 and gets resized and cropped
    ...-copy    the picture's bytes are stored a second time: equal content under two numbers
    broken-...  the picture is a PNG cut short; this row, and no other, has to fail

Within every kind of question the answers are equally frequent, so a model that does not look at the
picture is right as often as one that always gives the most frequent answer.

    python3 make_shapes.py [--out shapes.h5]
    python3 make_shapes.py --shuffled SEED --out FILE    the control: rows look at each other's pictures

Needs h5py, numpy, Pillow.  Seeded; the bytes of the pictures also depend on Pillow's version, so the
committed file is the reference.
"""

import argparse
import random
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "models"))
import shapes  # noqa: E402

SEED = 23
ROWS_PER_CLASS = 130  # about: the nearest number that all answers of all its kinds share evenly
MAX_SHARED = 4  # questions about one picture
LARGE_SIZES = ((120, 90), (96, 128), (75, 60), (90, 140), (150, 150))
N_COPIES = 6
MAX_TOKENS = 24


@dataclass
class Row:
    """image is a number of the list of pictures, or None."""

    id: str
    question: shapes.Question
    image: int | None


# ---- which questions -------------------------------------------------------------------------------


def wanted(rnd):
    """(Counter of rows by (group, answer), its keys from the rarest in scenes to the most frequent)."""
    seen = Counter()
    for _ in range(600):
        items = shapes.questions(shapes.draw_scene(rnd, held_out=True))
        seen.update({(q.group, q.answer) for q in items})
    n_keys = Counter(group[0] for group, _ in seen)
    quota = Counter({key: round(ROWS_PER_CLASS / n_keys[key[0][0]]) for key in seen})
    return quota, sorted(quota, key=lambda key: (seen[key], key))


def choose(rnd):
    """[(scene, its questions)]: at most MAX_SHARED questions of different classes for each scene,
    until every quota is met exactly."""
    quota, order = wanted(rnd)
    chosen = []
    for target in order:
        while quota[target] > 0:
            scene = shapes.draw_scene(rnd, held_out=True)
            items = [q for q in shapes.questions(scene) if quota[q.group, q.answer] > 0]
            menu = shapes.by_group(items)
            name = target[0][0]
            first = menu[name][target[0]][target[1]]
            if not first:
                continue
            others = [n for n in menu if n != name]
            picked = [rnd.choice(first)]
            for n in rnd.sample(others, min(len(others), rnd.randint(1, MAX_SHARED - 1))):
                answers = rnd.choice(list(menu[n].values()))
                picked.append(rnd.choice(rnd.choice(list(answers.values()))))
            quota.subtract((q.group, q.answer) for q in picked)
            chosen.append((scene, picked))
    return chosen


# ---- pictures and rows -----------------------------------------------------------------------------


def draw(rnd, scene):
    """(file bytes, whether larger than the model's pictures)."""
    large = rnd.random() < 0.12
    size = rnd.choice(LARGE_SIZES) if large else (shapes.SIDE, shapes.SIDE)
    if rnd.random() < 0.3:
        picture = shapes.render(rnd, scene, size, noise=rnd.choice((0.0, 2.0, 4.0)))
        return shapes.encode(picture, "JPEG"), large
    picture = shapes.render(rnd, scene, size, noise=2.0 if rnd.random() < 0.1 else 0.0)
    return shapes.encode(picture, "PNG"), large


def make_rows(rnd):
    """(the pictures' bytes, the rows)."""
    images, rows = [], []
    for scene, picked in choose(rnd):
        data, large = draw(rnd, scene)
        images.append(data)
        for q in picked:
            rows.append(Row(f"{q.name}{'-large' if large else ''}", q, len(images) - 1))
    for row in rnd.sample([row for row in rows if not row.id.endswith("-large")], N_COPIES):
        images.append(images[row.image])
        row.image = len(images) - 1
        row.id += "-copy"
    rows += [Row("text", q, None) for q in shapes.text_questions()]
    question = shapes.Question(("broken", ""), "How many circles are there?", "")
    whole = shapes.encode(shapes.render(rnd, shapes.draw_scene(rnd, held_out=True)), "PNG")
    images.append(whole[: len(whole) // 2])
    rows.append(Row("broken", question, len(images) - 1))
    rnd.shuffle(rows)
    for number, row in enumerate(rows):
        name, _, special = row.id.partition("-")
        row.id = f"{name}-{number:04d}" + (f"-{special}" if special else "")
    return images, rows


def shuffle(rnd, images, rows):
    """Deal the pictures of all whole rows out anew, so that no row keeps what it shows."""
    whole = [row for row in rows if row.image is not None and row.question.name != "broken"]
    before = [images[row.image] for row in whole]
    numbers = [row.image for row in whole]
    rnd.shuffle(numbers)
    for i, data in enumerate(before):
        while images[numbers[i]] == data:
            j = rnd.randrange(len(numbers))
            if data != images[numbers[j]] and before[j] != images[numbers[i]]:
                numbers[i], numbers[j] = numbers[j], numbers[i]
    for row, number in zip(whole, numbers):
        row.image = number


# ---- the file --------------------------------------------------------------------------------------


def write_ragged(group, rows, dtype):
    """A ragged column: the elements of all rows in one, and where each row begins."""
    group["values"] = np.concatenate([np.asarray(row, dtype=dtype) for row in rows])
    group["offsets"] = np.cumsum([0] + [len(row) for row in rows], dtype=np.uint64)


def write(path, images, rows):
    with h5py.File(path, "w") as f:
        f.attrs["schema"] = "epidote.prompts/1"
        f["id"] = [row.id for row in rows]
        f["prompt"] = [shapes.prompt(row.question.text, row.image is not None) for row in rows]
        f["answer"] = [row.question.answer for row in rows]
        f["class"] = [row.question.name for row in rows]
        f["max_tokens"] = np.full(len(rows), MAX_TOKENS, dtype=np.int32)
        encoded = [np.frombuffer(data, dtype=np.uint8) for data in images]
        write_ragged(f.create_group("images/encoded"), encoded, np.uint8)
        refs = [[] if row.image is None else [row.image] for row in rows]
        write_ragged(f.create_group("image_ref"), refs, np.int64)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "shapes.h5")
    parser.add_argument("--shuffled", type=int, metavar="SEED", help="write the control instead")
    args = parser.parse_args()

    images, rows = make_rows(random.Random(SEED))
    if args.shuffled is not None:
        if args.out == parser.get_default("out"):
            parser.error("--shuffled needs --out: shapes.h5 itself stays as it is")
        shuffle(random.Random(args.shuffled), images, rows)
    write(args.out, images, rows)
    shared = Counter(row.image for row in rows if row.image is not None)
    n_large = sum(row.id.endswith("-large") for row in rows)
    print(f"{len(rows)} rows, {len(images)} pictures, {args.out.stat().st_size} bytes")
    print("questions a picture:", dict(sorted(Counter(shared.values()).items())), "large:", n_large)
    for name, n in sorted(Counter(row.question.name for row in rows).items()):
        answers = Counter(row.question.answer for row in rows if row.question.name == name)
        print(f"{name:11}{n:5}  most frequent {max(answers.values()) / n:.3f}  {len(answers)} answers")


if __name__ == "__main__":
    main()
