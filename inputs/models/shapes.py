"""Pictures of coloured shapes, and questions about them with their answers.

What shapes-vlm is trained on and tested with.  A scene is up to six objects on a grid of three by
three cells; `render` draws it, `questions` lists everything that can be asked about it.  All of it
follows from the `random.Random` that the caller passes, so a seed is a data set.

Scenes come from two disjoint halves: `is_held_out` looks only at which objects stand in which cells,
so no picture for testing shows an arrangement that training has seen, however it is drawn.

Used by train_shapes_vlm.py (training) and ../make_shapes.py (the prompt file).  Needs numpy, Pillow.
"""

import hashlib
import io
import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {
    "red": (214, 32, 38),
    "green": (38, 158, 52),
    "blue": (38, 74, 216),
    "yellow": (244, 220, 32),
    "purple": (142, 44, 168),
    "orange": (248, 134, 20),
}
SHAPES = ("circle", "square", "triangle", "cross")
CORNERS = {(0, 0): "top left", (0, 2): "top right", (2, 0): "bottom left", (2, 2): "bottom right"}
CLASSES = ("count", "existence", "colour", "shape", "position", "relation", "comparison")

SIDE = 60  # pixels of the part of a picture that holds objects, before scaling
GRID = 3
CELL = SIDE / GRID
MAX_OBJECTS = 6
MAX_COUNT = 4  # the largest number that is asked for
OVERSAMPLE = 4


# ---- scenes --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Object:
    """One shape.  x, y, radius in pixels of a picture of SIDE; turn in radians."""

    row: int
    col: int
    shape: str
    colour: str
    big: bool
    x: float
    y: float
    radius: float
    turn: float


def is_held_out(scene):
    """Whether a scene belongs to the test half: one arrangement in sixteen, by its hash."""
    key = sorted((o.row, o.col, o.shape, o.colour, o.big) for o in scene)
    return hashlib.sha256(repr(key).encode()).digest()[0] < 16


def draw_scene(rnd, held_out):
    """A scene of the wanted half.  Few colours and shapes to choose from make counts above one."""
    while True:
        n = rnd.choices(range(1, MAX_OBJECTS + 1), weights=(2, 2, 3, 4, 4, 4))[0]
        colours = rnd.sample(list(COLOURS), rnd.choice((1, 2, 2, 3, 4, 6)))
        shapes = rnd.sample(SHAPES, rnd.choice((1, 2, 2, 3, 4)))
        scene = []
        for cell in rnd.sample(range(GRID * GRID), n):
            row, col = divmod(cell, GRID)
            big = rnd.random() < 0.5
            scene.append(
                Object(
                    row=row,
                    col=col,
                    shape=rnd.choice(shapes),
                    colour=rnd.choice(colours),
                    big=big,
                    x=(col + 0.5 + rnd.uniform(-0.06, 0.06)) * CELL,
                    y=(row + 0.5 + rnd.uniform(-0.06, 0.06)) * CELL,
                    radius=(rnd.uniform(0.39, 0.42) if big else rnd.uniform(0.30, 0.33)) * CELL,
                    turn=rnd.uniform(-0.14, 0.14),
                )
            )
        if is_held_out(scene) == held_out:
            return scene


# ---- pictures ------------------------------------------------------------------------------------


def _background(rnd, width, height):
    """A plain, shaded, striped or chequered ground, light or dark, always far from the colours."""
    level = rnd.uniform(175, 238) if rnd.random() < 0.7 else rnd.uniform(14, 52)
    base = np.array([level + rnd.uniform(-8, 8) for _ in range(3)])
    step = rnd.uniform(5, 14) * rnd.choice((-1, 1))
    y, x = np.mgrid[0:height, 0:width]
    kind = rnd.choice(("plain", "shaded", "stripes", "chequered"))
    period = rnd.randint(6, 16)
    if kind == "plain":
        wave = np.zeros((height, width))
    elif kind == "shaded":
        angle = rnd.uniform(0, 2 * math.pi)
        wave = (x / width - 0.5) * math.cos(angle) + (y / height - 0.5) * math.sin(angle)
    elif kind == "stripes":
        wave = (x + y if rnd.random() < 0.5 else y) // period % 2 - 0.5
    else:
        wave = (x // period + y // period) % 2 - 0.5
    ground = base + step * wave[:, :, None]
    return Image.fromarray(np.clip(np.rint(ground), 0, 255).astype(np.uint8))


def _outline(shape, radius, turn):
    """The corners of a shape about (0, 0), or None for a circle."""
    if shape == "circle":
        return None
    if shape == "square":
        points = [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
    elif shape == "triangle":
        points = [(0.0, -1.05), (0.91, 0.6), (-0.91, 0.6)]
    else:
        a, b = 0.33, 1.0
        points = [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a)]
        points += [(-x, -y) for x, y in points]
    c, s = math.cos(turn), math.sin(turn)
    return [(radius * (c * x - s * y), radius * (s * x + c * y)) for x, y in points]


def render(rnd, scene, size=(SIDE, SIDE), noise=0.0):
    """The picture of a scene.  The objects fill the largest square in the middle of size (width,
    height): what a processor keeps that scales the shorter edge and crops the centre."""
    width, height = size
    scale = min(size) / SIDE
    left, top = (width - min(size)) / 2, (height - min(size)) / 2
    canvas = _background(rnd, width, height)
    canvas = canvas.resize((width * OVERSAMPLE, height * OVERSAMPLE), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(canvas)
    for o in scene:
        fill = tuple(round(min(255, max(0, c + rnd.uniform(-9, 9)))) for c in COLOURS[o.colour])
        x, y = (left + o.x * scale) * OVERSAMPLE, (top + o.y * scale) * OVERSAMPLE
        radius = o.radius * scale * OVERSAMPLE
        corners = _outline(o.shape, radius, o.turn)
        if corners is None:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
        else:
            pen.polygon([(x + dx, y + dy) for dx, dy in corners], fill=fill)
    picture = canvas.reduce(OVERSAMPLE)
    if noise > 0.0:
        grain = np.random.default_rng(rnd.getrandbits(32)).normal(0.0, noise, (height, width, 1))
        pixels = np.asarray(picture) + grain
        picture = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    return picture


def encode(picture, format):
    """The bytes of a picture as a PNG or JPEG file."""
    out = io.BytesIO()
    if format == "JPEG":
        picture.save(out, "JPEG", quality=95)
    else:
        picture.save(out, "PNG", optimize=True)
    return out.getvalue()


# ---- questions -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """group is the class and the kind of question within it, such as ("count", "colour").

    Within a group every answer is equally likely in the test data, so that the words of a question
    tell nothing about its answer."""

    group: tuple
    text: str
    answer: str

    @property
    def name(self):
        return self.group[0]


def _descriptions():
    """(kind, colour or None, shape or None, words) of everything that can be named."""
    for colour in COLOURS:
        yield "colour", colour, None, f"{colour} object"
        for shape in SHAPES:
            yield "both", colour, shape, f"{colour} {shape}"
    for shape in SHAPES:
        yield "shape", None, shape, shape


DESCRIPTIONS = tuple(_descriptions())


def _plural(words):
    return words + ("es" if words.endswith("s") else "s")


def _article(words):
    return ("an " if words[0] in "aeiou" else "a ") + words


def _yes(truth):
    return "yes" if truth else "no"


def questions(scene):
    """Every question about a scene that has one right answer."""
    found = {
        words: [o for o in scene if colour in (None, o.colour) and shape in (None, o.shape)]
        for _, colour, shape, words in DESCRIPTIONS
    }
    out = []
    for kind, colour, shape, words in DESCRIPTIONS:
        n = len(found[words])
        if n <= MAX_COUNT:
            out.append(Question(("count", kind), f"How many {_plural(words)} are there?", str(n)))
        out.append(Question(("existence", kind), f"Is there {_article(words)}?", _yes(n > 0)))
        if n != 1:
            continue
        one = found[words][0]
        if kind == "shape":
            out.append(Question(("colour", ""), f"What colour is the {words}?", one.colour))
        if kind == "colour":
            out.append(Question(("shape", ""), f"What shape is the {words}?", one.shape))
        if (one.row, one.col) in CORNERS:
            where = CORNERS[one.row, one.col]
            out.append(Question(("position", kind), f"Where is the {words}?", where))
    singles = [(w, found[w][0]) for k, _, _, w in DESCRIPTIONS if k == "both" and len(found[w]) == 1]
    for a, one in singles:
        for b, other in singles:
            if one.col != other.col:
                text = f"Is the {a} left of the {b}?"
                out.append(Question(("relation", "left"), text, _yes(one.col < other.col)))
            if one.row != other.row:
                text = f"Is the {a} above the {b}?"
                out.append(Question(("relation", "above"), text, _yes(one.row < other.row)))
    for kind in ("colour", "shape"):
        names = [w for k, _, _, w in DESCRIPTIONS if k == kind]
        for a in names:
            for b in names:
                if a != b and found[a] + found[b]:
                    text = f"Are there more {_plural(a)} than {_plural(b)}?"
                    more = len(found[a]) > len(found[b])
                    out.append(Question(("comparison", kind), text, _yes(more)))
    return out


def absent_questions(scene):
    """Questions that suppose an object which the scene does not show: each with every answer of the
    right kind, so that who draws from them evenly learns that none is better than another."""
    out = []
    for kind, colour, shape, words in DESCRIPTIONS:
        if any(colour in (None, o.colour) and shape in (None, o.shape) for o in scene):
            continue
        asked = [("position", f"Where is the {words}?", CORNERS.values())]
        if kind == "shape":
            asked.append(("colour", f"What colour is the {words}?", COLOURS))
        if kind == "colour":
            asked.append(("shape", f"What shape is the {words}?", SHAPES))
        out += [
            Question(("absent", name), text, answer)
            for name, text, answers in asked
            for answer in answers
        ]
    return out


NUMBERS = "zero one two three four five six seven eight nine ten".split()
FACTS = {
    "What colour is a ripe banana?": "yellow",
    "What colour is grass?": "green",
    "What colour is the sky?": "blue",
    "What colour is a tomato?": "red",
    "What colour is a carrot?": "orange",
    "What colour is a plum?": "purple",
    "How many sides does a triangle have?": "three",
    "How many sides does a square have?": "four",
    "How many sides does a circle have?": "none",
    "What is the opposite of left?": "right",
    "What is the opposite of right?": "left",
    "What is the opposite of top?": "bottom",
    "What is the opposite of bottom?": "top",
}


def text_questions():
    """The questions without a picture: few enough to learn by heart, and meant to be."""
    pairs = dict(FACTS)
    for a in range(6):
        for b in range(6):
            pairs[f"What is {NUMBERS[a]} plus {NUMBERS[b]}?"] = NUMBERS[a + b]
    for word in (*COLOURS, *SHAPES):
        pairs[f"Spell the word {word}."] = " ".join(word)
    return [Question(("text", ""), text, answer) for text, answer in pairs.items()]


def prompt(text, with_image=True):
    """A question in the form that the model is trained on: what its chat template writes."""
    return f"USER: {'<image>' + chr(10) if with_image else ''}{text} ASSISTANT:"


def by_group(items):
    """{class: {group: {answer: [question, ...]}}}, for choosing evenly."""
    out = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for q in items:
        out[q.name][q.group][q.answer].append(q)
    return out
