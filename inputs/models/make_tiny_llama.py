#!/usr/bin/env python3
"""Make inputs/models/tiny-llama/ and inputs/tiny.jsonl.

A llama of 0.9 million parameters, trained for some minutes on the CPU on text that this script
writes, so that the answers to its prompts can be checked: it counts, copies, sorts, adds, spells and
knows a few capitals.  It ships with Epidote so that tests have a model that answers, ends its
answers, and differs in length from row to row.

    python3 make_tiny_llama.py [--minutes 6] [--threads 2]

Needs torch, transformers, tokenizers, safetensors.  Seeded; the result also depends on the number of
steps that the minutes allow and on torch's version, so the committed files are the reference.
"""

import argparse
import json
import random
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = HERE / "tiny-llama"
SEED = 7

# SmolLM2's own template, byte for byte: programs that recognise a template by its text know this one.
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"

# ---- what it learns ------------------------------------------------------------------------------

CAPITALS = dict(
    p.split(":")
    for p in """France:Paris Germany:Berlin Italy:Rome Spain:Madrid Portugal:Lisbon Austria:Vienna
    Poland:Warsaw Norway:Oslo Sweden:Stockholm Finland:Helsinki Denmark:Copenhagen Ireland:Dublin
    Greece:Athens Egypt:Cairo Japan:Tokyo China:Beijing Kenya:Nairobi Peru:Lima Cuba:Havana
    Hungary:Budapest Russia:Moscow Turkey:Ankara Canada:Ottawa Chile:Santiago""".split()
)
COLOURS = dict(
    p.split(":")
    for p in """grass:green snow:white blood:red coal:black gold:yellow milk:white leaves:green
    chocolate:brown lemons:yellow strawberries:red soot:black""".split()
)
OPPOSITES = dict(
    p.split(":")
    for p in """hot:cold big:small up:down left:right day:night fast:slow old:new wet:dry open:closed
    high:low hard:soft early:late full:empty rich:poor""".split()
)
WORDS = """apple river stone cloud window garden table paper silver orange winter summer bread music
planet forest bridge mirror castle pencil rabbit wolf horse eagle candle basket letter ocean island
mountain ladder button ticket hammer engine copper violet yellow purple""".split()
ANIMALS = "cat dog fox owl bear mouse frog hen goat duck".split()
NAMES = "Tom Anna Ben Lily Max Nora Sam Eva Leo Mia".split()
PLACES = "forest river village garden mountain market harbour castle".split()
THINGS = "key coin lamp book apple stone ring feather map bell".split()
FEELINGS = "happy tired proud afraid curious hungry glad lost".split()


def story(rnd, animal):
    """Some sentences with a little state: name, place and thing come back."""
    name, place, thing = rnd.choice(NAMES), rnd.choice(PLACES), rnd.choice(THINGS)
    parts = [f"Once there was a {animal} named {name} who lived near the {place}."]
    for _ in range(rnd.randint(1, 5)):
        parts.append(
            rnd.choice(
                [
                    f"One day {name} found a {rnd.choice(THINGS)} in the {place}.",
                    f"{name} met a {rnd.choice(ANIMALS)} and they walked to the {rnd.choice(PLACES)}.",
                    f"The {animal} was {rnd.choice(FEELINGS)} and looked for a {thing}.",
                    f"\"Where is my {thing}?\" asked {name}.",
                    f"It was cold, so the {animal} went home.",
                ]
            )
        )
    parts.append(rnd.choice([f"In the end {name} was {rnd.choice(FEELINGS)}.", "Then they all slept."]))
    return " ".join(parts)


def task_count(rnd):
    n = rnd.choice([rnd.randint(1, 12), rnd.randint(1, 40)])
    return f"Count to {n}.", " ".join(str(i) for i in range(1, n + 1))


def task_count_from(rnd):
    a = rnd.randint(1, 60)
    b = a + rnd.randint(1, 15)
    return f"Count from {a} to {b}.", " ".join(str(i) for i in range(a, b + 1))


def task_copy(rnd):
    text = " ".join(rnd.choice(WORDS) for _ in range(rnd.randint(1, 6)))
    return f"Repeat: {text}", text


def task_say(rnd):
    w, n = rnd.choice(WORDS), rnd.randint(1, 9)
    return f"Say {w} {n} times.", " ".join([w] * n)


def task_add(rnd):
    a, b = rnd.randint(0, 9), rnd.randint(0, 9)
    return f"What is {a} + {b}?", f"{a} + {b} = {a + b}."


def task_sort(rnd):
    d = rnd.sample(range(10), rnd.randint(2, 6))
    return "Sort: " + " ".join(map(str, d)), " ".join(map(str, sorted(d)))


def task_reverse(rnd):
    d = [rnd.randint(0, 9) for _ in range(rnd.randint(2, 6))]
    return "Reverse: " + " ".join(map(str, d)), " ".join(map(str, d[::-1]))


def task_spell(rnd):
    w = rnd.choice(WORDS)
    return f"Spell {w}.", " ".join(w)


def task_capital(rnd):
    c = rnd.choice(list(CAPITALS))
    return f"What is the capital of {c}?", f"The capital of {c} is {CAPITALS[c]}."


def task_colour(rnd):
    c = rnd.choice(list(COLOURS))
    return f"What colour is {c}?", f"The colour of {c} is {COLOURS[c]}."


def task_opposite(rnd):
    c = rnd.choice(list(OPPOSITES))
    return f"What is the opposite of {c}?", f"The opposite of {c} is {OPPOSITES[c]}."


def task_story(rnd):
    animal = rnd.choice(ANIMALS)
    return f"Tell me a story about a {animal}.", story(rnd, animal)


# name: (maker, how often it is trained, whether the answer is the only right one)
TASKS = {
    "count": (task_count, 3, True),
    "from": (task_count_from, 3, True),
    "copy": (task_copy, 4, True),
    "say": (task_say, 2, True),
    "add": (task_add, 3, True),
    "sort": (task_sort, 3, True),
    "reverse": (task_reverse, 4, True),
    "spell": (task_spell, 2, True),
    "capital": (task_capital, 2, True),
    "colour": (task_colour, 1, True),
    "opposite": (task_opposite, 1, True),
    "story": (task_story, 3, False),
}
NAMES_WEIGHTED = [n for n, t in TASKS.items() for _ in range(t[1])]


SYSTEM_TURN = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"


def turn(question):
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


# ---- tokeniser -----------------------------------------------------------------------------------


def make_tokenizer():
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    rnd = random.Random(SEED)
    lines = [SYSTEM] * 40
    for _ in range(6000):
        q, a = TASKS[rnd.choice(list(TASKS))][0](rnd)
        lines += [q, a]
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tok.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        min_frequency=2,
        special_tokens=[AddedToken(s, special=True, normalized=False) for s in special],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tok.train_from_iterator(lines, trainer)
    return tok


# ---- model ---------------------------------------------------------------------------------------


def make_model(n_vocab):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=n_vocab,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=1024,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        initializer_range=0.05,
    )
    return LlamaForCausalLM(config)


def train(model, tok, minutes):
    """AdamW on packed rows of several conversations; only answers count in the loss."""
    import torch

    rnd = random.Random(SEED + 1)
    T, B, peak = 256, 8, 4e-3
    eos = tok.token_to_id("<|im_end|>")
    prefix = tok.encode(SYSTEM_TURN).ids

    def conversation():
        q, a = TASKS[rnd.choice(NAMES_WEIGHTED)][0](rnd)
        h = tok.encode(turn(q)).ids
        ids = tok.encode(a).ids + [eos]
        return h + ids, [-100] * len(h) + ids

    def row():
        """The system turn once, then conversations that attend to it and to themselves only."""
        n = len(prefix)
        ids, labels, pos, seg = list(prefix), [-100] * n, list(range(n)), [0] * n
        n = 1
        while True:
            x, y = conversation()
            if len(ids) + len(x) > T:
                break
            y[0] = -100
            ids += x
            labels += y
            pos += range(len(prefix), len(prefix) + len(x))
            seg += [n] * len(x)
            n += 1
        pad = T - len(ids)
        return ids + [eos] * pad, labels + [-100] * pad, pos + [0] * pad, seg + [-1 - i for i in range(pad)]

    opt = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.05)
    causal = torch.tril(torch.ones(T, T, dtype=torch.bool))
    begin, step, shown = time.time(), 0, 0.0
    model.train()
    while (spent := (time.time() - begin) / (60 * minutes)) < 1:
        ids, labels, pos, seg = (torch.tensor(x) for x in zip(*(row() for _ in range(B))))
        # warm up over 100 steps, then down to a fiftieth by the clock
        rate = peak * min(1.0, (step + 1) / 100) * (1.0 - 0.98 * spent)
        for g in opt.param_groups:
            g["lr"] = rate
        key, query = seg[:, None, None, :], seg[:, None, :, None]
        allowed = ((key == query) | (key == 0) & (query >= 0)) & causal
        mask = torch.zeros(allowed.shape).masked_fill(~allowed, float("-inf"))
        hidden = model.model(input_ids=ids, attention_mask=mask, position_ids=pos).last_hidden_state
        want = labels[:, 1:]
        at = want != -100  # the head only where it counts
        logits = model.lm_head(hidden[:, :-1][at])
        loss = torch.nn.functional.cross_entropy(logits, want[at])
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        step += 1
        if time.time() - shown > 15:
            shown = time.time()
            print(f"{shown - begin:6.0f} s  step {step}  loss {loss.item():.3f}", flush=True)
    return step, time.time() - begin


# ---- the prompts that ship, and how many of them it gets right ------------------------------------


def make_prompts():
    rnd = random.Random(SEED + 2)
    rows, seen = [], set()
    names = list(TASKS)
    i = 0
    while len(rows) < 200:
        name = names[i % len(names)]
        i += 1
        q, a = TASKS[name][0](rnd)
        if q in seen and name not in ("story", "colour", "opposite", "capital"):
            continue
        seen.add(q)
        row = {"id": f"{name}-{len(rows):03d}", "prompt": q}
        if TASKS[name][2]:
            row["expect"] = a
        rows.append(row)
    return rows


def measure(model, tok, rows):
    import torch

    right = {}
    model.eval()
    eos = tok.token_to_id("<|im_end|>")
    n_eos = 0
    lengths = []
    for r in rows:
        ids = torch.tensor([tok.encode(SYSTEM_TURN + turn(r["prompt"])).ids])
        with torch.no_grad():
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=160, do_sample=False
            )
        answer = out[0, ids.shape[1] :].tolist()
        lengths.append(len(answer))
        if answer and answer[-1] == eos:
            n_eos += 1
            answer.pop()
        r["got"] = tok.decode(answer)
        if "expect" in r:
            name = r["id"].split("-")[0]
            n, m = right.get(name, (0, 0))
            right[name] = (n + (r["got"] == r["expect"]), m + 1)
    return right, n_eos, lengths


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    import torch

    torch.set_num_threads(args.threads)
    OUT.mkdir(exist_ok=True)
    tok = make_tokenizer()
    tok.save(str(OUT / "tokenizer.json"))
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "chat_template": TEMPLATE,
        "model_max_length": 1024,
        "tokenizer_class": "GPT2Tokenizer",
    }
    (OUT / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")

    model = make_model(tok.get_vocab_size())
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {tok.get_vocab_size()} tokens")
    steps, seconds = train(model, tok, args.minutes)
    model.to(torch.bfloat16)
    model.save_pretrained(OUT, safe_serialization=True)
    config = json.loads((OUT / "config.json").read_text())
    config["rope_theta"] = 10000.0  # where readers older than transformers 5 look
    (OUT / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for path in OUT.iterdir():
        path.chmod(0o644)

    model.to(torch.float32)  # the rounded weights, computed exactly
    rows = make_prompts()
    right, n_eos, lengths = measure(model, tok, rows)
    for r in rows[:24]:
        print(json.dumps(r))
    print(f"{steps} steps in {seconds:.0f} s; {n_eos} of {len(rows)} answers ended by themselves")
    print(f"answer tokens: least {min(lengths)}, mean {sum(lengths) / len(lengths):.1f}, most {max(lengths)}")
    n, m = (sum(x) for x in zip(*right.values()))
    for name, (a, b) in right.items():
        print(f"| {name} | {a} of {b} |")
    print(f"| all | {n} of {m} |")
    with open(HERE.parent / "tiny.jsonl", "w") as f:
        for r in rows:
            r.pop("got")
            f.write(json.dumps(r) + "\n")


if __name__ == "__main__":
    main()
