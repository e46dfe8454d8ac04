#!/usr/bin/env python3
"""Make inputs/models/shapes-vlm/: a small LLaVA that answers questions about pictures of shapes.

A CLIP vision tower, a projector of two layers and a llama, trained from nothing on what shapes.py
draws.  Four things make it cheap enough for two cores:

  * the tower and the projector first learn alone to say which colour and shape each patch shows, and
    where it is (heads thrown away later): counting comes quickly once patches know what they see;
  * patches fit the cells of a scene, two by two: a shape is told by its quarters;
  * an image is encoded once and followed by as many questions as fit a row.  Each question attends
    to the image and to itself only, with positions as if it were alone, so the loss is that of
    single questions;
  * the last layer of the tower, which LLaVA does not use (vision_feature_layer -2), is not computed.

    python3 train_shapes_vlm.py [--out shapes-vlm] [--warm-steps 500] [--steps 2000]
    python3 train_shapes_vlm.py --start DIR [--out shapes-vlm] [--steps 1000] [--round 1] [--absent 0]

The second line goes on with the model in DIR and asks more often what comes out wrong most.  What
ships is the first line, then the second three times: round 1; round 2 with --steps 1500; round 3 with
--steps 500 --absent 1.

--absent is how often, beside the weights below, a colour, a shape or a place is asked of an object that
is not in the picture.  The answer to learn is one of the right kind, drawn at random: without it such
a question often gets "no" or "0", which is never right, and shuffled pictures come out below chance.

Runs as two processes of one thread each, and writes the model so far every 250 steps.  Needs torch,
torchvision, transformers 5, tokenizers, safetensors, numpy, Pillow.  Seeded: every batch follows from
its number; the sums of another machine or version of torch can round otherwise, so the committed
files are the reference.
"""

import argparse
import io
import json
import math
import random
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np
import shapes
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

HERE = Path(__file__).resolve().parent
SEED = 11
PATCH = 10  # four patches show one cell of a scene
N_PATCHES = (shapes.SIDE // PATCH) ** 2
VISION_D, TEXT_D = 128, 192
ROW_TOKENS = 176  # of a training row: 36 of the image, the rest questions with their answers
N_PROCESSES = 2  # each makes its own half of every batch
IMAGE_ROWS, TEXT_ROWS = 15, 1  # of half a batch
WARM_IMAGES = 32  # of half a batch while tower and projector learn alone
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)

BOS, EOS, PAD, IMAGE = "<s>", "</s>", "<pad>", "<image>"
CHAT_TEMPLATE = """\
{{ bos_token }}{% for message in messages %}\
{% if message['role'] == 'user' %}\
{{ 'USER: ' }}\
{% if message['content'] is string %}{{ message['content'] }}\
{% else %}\
{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>\\n' }}{% endif %}{% endfor %}\
{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}\
{% endif %}{{ ' ' }}\
{% elif message['role'] == 'assistant' %}\
{{ 'ASSISTANT:' }}\
{% if message['content'] is string %}{{ message['content'] }}\
{% else %}\
{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}\
{% endif %}{{ eos_token }}\
{% else %}{{ raise_exception('only user and assistant speak') }}\
{% endif %}\
{% endfor %}\
{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"""


# ---- tokeniser and processor -----------------------------------------------------------------------


def make_tokenizer():
    """A byte-level BPE over what the questions and answers say, with <s> before every text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    rnd = random.Random(SEED)
    lines = []
    for _ in range(300):
        for q in rnd.sample(shapes.questions(shapes.draw_scene(rnd, False)), 20):
            lines += [shapes.prompt(q.text), q.answer]
    for q in shapes.text_questions():
        lines += [shapes.prompt(q.text, with_image=False), q.answer] * 8
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        min_frequency=4,
        special_tokens=[AddedToken(s, special=True, normalized=False) for s in (BOS, EOS, PAD, IMAGE)],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tok.train_from_iterator(lines, trainer)
    tok.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A {BOS} $B",
        special_tokens=[(BOS, tok.token_to_id(BOS))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tok,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        extra_special_tokens={"image_token": IMAGE},
        model_max_length=512,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def save_processor(tokenizer, out):
    """What AutoProcessor loads, in the files that LLaVA models on the hub have."""
    from transformers import CLIPImageProcessor

    tokenizer.save_pretrained(out)
    config = json.loads((out / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "processor_class": "LlavaProcessor"}
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    edge = shapes.SIDE
    CLIPImageProcessor(
        do_resize=True,
        size={"shortest_edge": edge},
        resample=Image.Resampling.BICUBIC,
        do_center_crop=True,
        crop_size={"height": edge, "width": edge},
        do_rescale=True,
        rescale_factor=1 / 255,
        do_normalize=True,
        image_mean=list(IMAGE_MEAN),
        image_std=list(IMAGE_STD),
        do_convert_rgb=True,
    ).save_pretrained(out)
    processor = {
        "image_token": IMAGE,
        "num_additional_image_tokens": 1,
        "patch_size": PATCH,
        "processor_class": "LlavaProcessor",
        "vision_feature_select_strategy": "default",
    }
    (out / "processor_config.json").write_text(json.dumps(processor, indent=2) + "\n")


# ---- model -----------------------------------------------------------------------------------------


def make_model(tokenizer):
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    torch.manual_seed(SEED)
    ids = dict(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = CLIPVisionConfig(
        hidden_size=VISION_D,
        intermediate_size=384,
        num_hidden_layers=5,
        num_attention_heads=4,
        image_size=shapes.SIDE,
        patch_size=PATCH,
        projection_dim=VISION_D,
        hidden_act="quick_gelu",
        initializer_factor=1.0,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_D,
        intermediate_size=448,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        initializer_range=0.05,
        **ids,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        projector_hidden_act="gelu",
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=N_PATCHES,
        tie_word_embeddings=False,
    )
    model = LlavaForConditionalGeneration(config)
    place_patches(model.model.vision_tower.embeddings.position_embedding)
    model.generation_config.update(**ids, do_sample=False, max_new_tokens=24)
    return model


@torch.no_grad()
def place_patches(embedding):
    """Let positions begin as waves along y and x, as strong as what patches show: CLIP's own start is
    so weak that looking at neighbours is learned late."""
    edge = shapes.SIDE // PATCH
    rates = torch.linspace(0.5, edge / 2, VISION_D // 4) * math.pi / edge
    y, x = torch.meshgrid(torch.arange(edge) + 0.5, torch.arange(edge) + 0.5, indexing="ij")
    waves = [wave(at.reshape(-1, 1) * rates) for at in (y, x) for wave in (torch.sin, torch.cos)]
    embedding.weight[1:] = 0.3 * torch.cat(waves, dim=1)


def save_model(model, out):
    """The weights rounded to bf16, and the configs, as readers older than transformers 5 know them:
    the tower's tensors under vision_model, the base of RoPE beside rope_parameters."""
    rounded = type(model)(model.config)
    rounded.load_state_dict(model.state_dict())
    rounded.generation_config = model.generation_config
    rounded.to(torch.bfloat16).save_pretrained(out)
    tensors = {
        name.replace("vision_tower.", "vision_tower.vision_model."): tensor
        for name, tensor in load_file(out / "model.safetensors").items()
    }
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((out / "config.json").read_text())
    config["text_config"]["rope_theta"] = config["text_config"]["rope_parameters"]["rope_theta"]
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for path in out.iterdir():
        path.chmod(0o644)


def image_tokens(model, pixels):
    """[B, patches, TEXT_D]: what stands for the images in the text model.  The tower's last layer and
    the class token are left out, as LLaVA does."""
    tower = model.model.vision_tower
    x = tower.pre_layrnorm(tower.embeddings(pixels))
    for layer in tower.encoder.layers[:-1]:
        x = layer(x, attention_mask=None)
    return model.model.multi_modal_projector(x[:, 1:])


class PatchHeads(torch.nn.Module):
    """For training only: what the token of each patch tells, namely the patch's colour, its shape,
    whether it is the upper left quarter of an object, and the row and the column of its cell."""

    SIZES = (len(shapes.COLOURS) + 1, len(shapes.SHAPES) + 1, 2, shapes.GRID, shapes.GRID)

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.LayerNorm(TEXT_D)
        self.heads = torch.nn.Linear(TEXT_D, sum(self.SIZES))

    def forward(self, tokens, labels):
        """The loss, and the share of patches of which everything is right."""
        parts = self.heads(self.norm(tokens)).float().split(self.SIZES, dim=-1)
        loss = sum(cross_entropy(p.flatten(0, 1), y.flatten()) for p, y in zip(parts, labels))
        right = torch.stack([p.argmax(-1) == y for p, y in zip(parts, labels)]).all(0)
        return loss, right.float().mean()


# ---- data ------------------------------------------------------------------------------------------


def patch_labels(scene):
    """[5, patches]: see PatchHeads."""
    edge = shapes.SIDE // PATCH
    n = edge // shapes.GRID  # patches along a cell
    labels = np.zeros((5, edge, edge), dtype=np.int64)
    labels[0], labels[1] = len(shapes.COLOURS), len(shapes.SHAPES)
    labels[3], labels[4] = np.arange(edge)[:, None] // n, np.arange(edge) // n
    for o in scene:
        y, x = o.row * n, o.col * n
        labels[0, y : y + n, x : x + n] = list(shapes.COLOURS).index(o.colour)
        labels[1, y : y + n, x : x + n] = shapes.SHAPES.index(o.shape)
        labels[2, y, x] = 1
    return labels.reshape(5, -1)


def training_picture(rnd, scene):
    """A scene drawn at some size, with some grain, perhaps through a JPEG, as the processor cuts it."""
    size = (shapes.SIDE, shapes.SIDE)
    if rnd.random() < 0.3:
        size = (rnd.randint(60, 160), rnd.randint(60, 160))
    picture = shapes.render(rnd, scene, size, noise=rnd.choice((0.0, 0.0, 2.0, 4.0)))
    if rnd.random() < 0.25:
        picture = Image.open(io.BytesIO(shapes.encode(picture, "JPEG")))
    if min(picture.size) != shapes.SIDE:
        short = min(picture.size)
        picture = picture.resize(
            [int(shapes.SIDE * x / short) for x in picture.size], Image.Resampling.BICUBIC
        )
    left, top = (x // 2 - shapes.SIDE // 2 for x in picture.size)
    picture = picture.crop((left, top, left + shapes.SIDE, top + shapes.SIDE))
    pixels = (np.asarray(picture, dtype=np.float32) / 255 - IMAGE_MEAN) / IMAGE_STD
    return pixels.transpose(2, 0, 1).astype(np.float32)


# How often a class is asked, at first and when going on.
FIRST_WEIGHTS = dict(
    count=4, existence=1.5, colour=1, shape=1, position=2.5, relation=5, comparison=2
)
LATER_WEIGHTS = dict(
    count=7, existence=1.5, colour=0.5, shape=1.5, position=1.5, relation=5, comparison=1.5
)


class Batches(torch.utils.data.Dataset):
    """Half a batch, made from (seed, its number, process) alone, so that a worker can make it."""

    # how often an answer is chosen where several are possible
    ANSWER_WEIGHTS = {"2": 1.5, "3": 2.5, "4": 4}

    def __init__(self, tokenizer, seed, n, process=0, held_out=False, warm=False, weights=None):
        self.tokenizer, self.seed, self.n, self.process = tokenizer, seed, n, process
        self.weights = weights or FIRST_WEIGHTS
        self.held_out, self.warm = held_out, warm
        self.ids = cache(lambda text: tokenizer.encode(text, add_special_tokens=False))
        bos, image = tokenizer.bos_token_id, tokenizer.convert_tokens_to_ids(IMAGE)
        self.image_prefix = [bos] + self.ids("USER: ") + [image] * N_PATCHES
        self.text_prefix = [bos] + self.ids("USER:")

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        rnd = random.Random(f"{self.seed} {i} {self.process}")
        scenes = [
            shapes.draw_scene(rnd, self.held_out)
            for _ in range(WARM_IMAGES if self.warm else IMAGE_ROWS)
        ]
        assert all(shapes.is_held_out(scene) == self.held_out for scene in scenes)
        batch = {
            "pixels": np.stack([training_picture(rnd, scene) for scene in scenes]),
            "patches": np.stack([patch_labels(scene) for scene in scenes], axis=1),
        }
        if not self.warm:
            rows = [self.row(self.image_prefix, self.asked(rnd, scene)) for scene in scenes]
            rows += [self.row(self.text_prefix, self.recited(rnd)) for _ in range(TEXT_ROWS)]
            batch |= {name: np.array([row[name] for row in rows]) for name in rows[0]}
        return {name: torch.from_numpy(x) for name, x in batch.items()}

    def asked(self, rnd, scene):
        """Questions about a scene without end: the class first, then its group, then the answer."""
        menu = shapes.by_group(shapes.questions(scene) + shapes.absent_questions(scene))
        names = [name for name in menu if name in self.weights]
        weights = [self.weights[name] for name in names]
        while True:
            name = rnd.choices(names, weights)[0]
            answers = menu[name][rnd.choice(list(menu[name]))]
            answer = rnd.choices(list(answers), [self.ANSWER_WEIGHTS.get(a, 1) for a in answers])[0]
            q = rnd.choice(answers[answer])
            yield f"\n{q.text} ASSISTANT:", q

    def recited(self, rnd):
        every = shapes.text_questions()
        while True:
            q = rnd.choice(every)
            yield f" {q.text} ASSISTANT:", q

    def row(self, prefix, questions):
        """The prefix once, then questions with answers that see it and themselves only."""
        n = len(prefix)
        ids, want, position, part, kind = list(prefix), [-100] * n, list(range(n)), [0] * n, [-1] * n
        for number, (text, q) in enumerate(questions, start=1):
            head = self.ids(text)
            tail = self.ids(q.answer) + [self.tokenizer.eos_token_id]
            size = len(head) + len(tail)
            if len(ids) + size > ROW_TOKENS:
                break
            ids += head + tail
            # a token's label is the token after it
            want += [-100] * (len(head) - 1) + tail + [-100]
            position += range(n, n + size)
            part += [number] * size
            kind += [shapes.CLASSES.index(q.name) if q.name in shapes.CLASSES else -1] * size
        pad = ROW_TOKENS - len(ids)
        return {
            "ids": ids + [self.tokenizer.pad_token_id] * pad,
            "want": want + [-100] * pad,
            "position": position + [0] * pad,
            "part": part + [-1 - i for i in range(pad)],
            "kind": kind + [-1] * pad,
        }

    def loader(self):
        return torch.utils.data.DataLoader(self, batch_size=None, num_workers=1, prefetch_factor=8)


# ---- training --------------------------------------------------------------------------------------


def answer_logits(model, tokens, batch):
    """Logits at the places whose labels count, one row each; tokens are those of the images."""
    ids, part = batch["ids"], batch["part"]
    embeds = model.model.get_input_embeddings()(ids)
    at_image = ids == model.config.image_token_index
    embeds = embeds.masked_scatter(at_image[..., None], tokens.to(embeds.dtype))
    causal = torch.ones(ROW_TOKENS, ROW_TOKENS, dtype=torch.bool).tril()
    key, query = part[:, None, None, :], part[:, None, :, None]
    allowed = ((key == query) | (key == 0) & (query >= 0)) & causal
    hidden = model.model.language_model(
        inputs_embeds=embeds,
        attention_mask=allowed,
        position_ids=batch["position"],
        use_cache=False,
    ).last_hidden_state
    return model.lm_head(hidden[batch["want"] != -100]).float()


@torch.no_grad()
def held_out_accuracy(model, batches):
    """{class: share of answers that are right to the last token}, with the right beginning given:
    greedy decoding is right in the same cases."""
    right, asked = np.zeros(len(shapes.CLASSES)), np.zeros(len(shapes.CLASSES))
    for batch in batches:
        with torch.autocast("cpu", torch.bfloat16):
            logits = answer_logits(model, image_tokens(model, batch["pixels"]), batch)
        at = batch["want"] != -100
        hit = (logits.argmax(-1) == batch["want"][at]).numpy()
        row = torch.arange(at.shape[0])[:, None].expand(at.shape)[at].numpy()
        part, kind = batch["part"][at].numpy(), batch["kind"][at].numpy()
        verdict = {}
        for key, ok in zip(zip(row, part, kind), hit):
            verdict[key] = verdict.get(key, True) and ok
        for (_, _, k), ok in verdict.items():
            if k >= 0:
                asked[k] += 1
                right[k] += ok
    return dict(zip(shapes.CLASSES, right / np.maximum(asked, 1)))


def average_gradients(weights):
    """The mean over the processes, in one exchange."""
    flat = torch.cat([p.grad.flatten() for p in weights])
    torch.distributed.all_reduce(flat)
    flat /= N_PROCESSES
    for p, part in zip(weights, flat.split([p.numel() for p in weights])):
        p.grad.copy_(part.view_as(p))


def run_steps(name, loss_of, batches, weights, peak, after=None):
    """AdamW with warm-up and a cosine to a hundredth, clipped.  Returns the seconds."""
    decay = [{"params": [p for p in weights if p.ndim >= 2]}]
    plain = [{"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0}]
    opt = torch.optim.AdamW(decay + plain, lr=peak, betas=(0.9, 0.98), weight_decay=0.03)
    begin = time.time()
    for step, batch in enumerate(batches.loader(), start=1):
        cosine = 0.5 + 0.5 * math.cos(math.pi * step / len(batches))
        for group in opt.param_groups:
            group["lr"] = peak * min(1.0, step / 100) * (0.01 + 0.99 * cosine)
        with torch.autocast("cpu", torch.bfloat16):
            loss, note = loss_of(batch)
        opt.zero_grad()
        loss.backward()
        average_gradients(weights)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        opt.step()
        if batches.process == 0 and (step % 50 == 0 or step == len(batches)):
            print(f"{name} {step}  {time.time() - begin:.0f} s  {note}", flush=True)
        if after is not None:
            after(step)
    return time.time() - begin


def unused_weights(model):
    """Those of the tower that LLaVA does not compute; they stay as they began."""
    tower = model.model.vision_tower
    return {*tower.encoder.layers[-1].parameters(), *tower.post_layernorm.parameters()}


def open_eyes(model, heads, batches):
    """Train the tower and the projector alone, with the heads.  Returns the seconds."""
    eyes = [*model.model.vision_tower.parameters(), *model.model.multi_modal_projector.parameters()]
    weights = [p for p in eyes if p not in unused_weights(model)]

    def loss_of(batch):
        loss, right = heads(image_tokens(model, batch["pixels"]), batch["patches"])
        return loss, f"patches {loss.item():.4f}  right {right:.4f}"

    return run_steps("eyes", loss_of, batches, weights + [*heads.parameters()], 1.5e-3)


def train_all(model, tokenizer, batches, out, peak, heads=None):
    """Train everything; with heads, patches have to stay readable too.  Process 0 tests the model and
    writes it to out every 250 steps.  Returns the seconds."""
    weights = [p for p in model.parameters() if p not in unused_weights(model)]
    if heads is not None:
        weights += heads.parameters()
    test = Batches(tokenizer, SEED + 2, 8, held_out=True)
    test = [test[i] for i in range(len(test))]

    def loss_of(batch):
        tokens, want = image_tokens(model, batch["pixels"]), batch["want"]
        loss = cross_entropy(answer_logits(model, tokens, batch), want[want != -100])
        note = f"answers {loss.item():.4f}"
        if heads is not None:
            loss = loss + 0.1 * heads(tokens, batch["patches"])[0]
        return loss, note

    def look(step):
        if batches.process == 0 and (step % 250 == 0 or step == len(batches)):
            scores = held_out_accuracy(model, test)
            print("held out:", "  ".join(f"{k} {v:.3f}" for k, v in scores.items()), flush=True)
            save_model(model, out)

    return run_steps("model", loss_of, batches, weights, peak, after=look)


def work(process, args):
    """One of the processes: all have the same weights at all times."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{args.meeting}", rank=process, world_size=N_PROCESSES
    )
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    if process == 0:
        save_processor(tokenizer, args.out)
        print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(tokenizer)} tokens")
    if args.start is None:
        heads = PatchHeads()
        alone = Batches(tokenizer, SEED, args.warm_steps, process, warm=True)
        seconds = open_eyes(model, heads, alone)
        batches = Batches(tokenizer, SEED + 1, args.steps or 2000, process)
        seconds += train_all(model, tokenizer, batches, args.out, 1.5e-3, heads)
    else:
        start = type(model).from_pretrained(args.start, dtype=torch.float32)
        model.load_state_dict(start.state_dict())
        weights = LATER_WEIGHTS | {"absent": args.absent}
        batches = Batches(
            tokenizer, SEED + 2 + args.round, args.steps or 1000, process, weights=weights
        )
        seconds = train_all(model, tokenizer, batches, args.out, 7e-4)
    if process == 0:
        print(f"trained for {seconds:.0f} s")
    torch.distributed.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "shapes-vlm")
    parser.add_argument("--start", type=Path, metavar="DIR", help="go on with the model in DIR")
    parser.add_argument("--warm-steps", type=int, default=500)
    parser.add_argument("--steps", type=int, help="default 2000; with --start 1000")
    parser.add_argument("--round", type=int, default=1, help="of going on: other batches")
    parser.add_argument(
        "--absent", type=float, default=0, help="how often to ask of what is not there, with --start"
    )
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        args.meeting = Path(scratch) / "meeting"
        torch.multiprocessing.start_processes(
            work, (args,), nprocs=N_PROCESSES, start_method="fork"
        )


if __name__ == "__main__":
    main()
