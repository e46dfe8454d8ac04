#!/usr/bin/env python3
"""How many answers to a prompt file like shapes.h5 are right, by class of question.

    python3 check_shapes_vlm.py FILE ... [--model shapes-vlm] [--dtype bfloat16]
    python3 check_shapes_vlm.py FILE --results RESULTS.h5

Without --results, transformers answers: AutoProcessor and LlavaForConditionalGeneration, greedy.
With it, the answers are those that `epidote run` wrote for FILE.  An answer is right when it equals
the expected text to the letter; a row whose picture is broken has to fail.  Several files are
measured together (the controls of make_shapes.py --shuffled).

Prints a table in Markdown, beside it the share of the most frequent answer: what can be had without
looking.  Needs h5py; without --results also torch, torchvision, transformers 5, Pillow.
"""

import argparse
import io
import time
from collections import Counter, defaultdict
from pathlib import Path

import h5py

HERE = Path(__file__).resolve().parent
BATCH = 32


def read_rows(path):
    """[{id, prompt, answer, class, max_tokens, images: [bytes]}]"""
    with h5py.File(path) as f:
        columns = {name: f[name].asstr()[:] for name in ("id", "prompt", "answer", "class")}
        columns["max_tokens"] = f["max_tokens"][:].tolist()
        values, offsets = f["images/encoded/values"][:], f["images/encoded/offsets"][:]
        refs, bounds = f["image_ref/values"][:], f["image_ref/offsets"][:]
    rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
    for row, begin, end in zip(rows, bounds, bounds[1:]):
        row["images"] = [values[offsets[r] : offsets[r + 1]].tobytes() for r in refs[begin:end]]
    return rows


def read_results(path, rows):
    """Put what `epidote run` answered into the rows: None where it reports an error."""
    with h5py.File(path) as f:
        texts, ids, errors = (f[name].asstr()[:] for name in ("text", "id", "error"))
    assert list(ids) == [row["id"] for row in rows], "the results belong to another prompt file"
    for row, text, error in zip(rows, texts, errors):
        row["got"] = None if error else text


def answer(rows, model_dir, dtype):
    """Put transformers' answers into the rows: None where the picture cannot be read."""
    import torch
    from PIL import Image
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    processor = AutoProcessor.from_pretrained(model_dir)
    model = LlavaForConditionalGeneration.from_pretrained(model_dir, dtype=getattr(torch, dtype))
    model.eval()
    n_eos = 0
    batches = defaultdict(list)  # of equal length, so that nothing is padded
    for row in rows:
        row["got"] = None
        try:
            pictures = [Image.open(io.BytesIO(data)).convert("RGB") for data in row["images"]]
        except OSError:
            continue
        inputs = processor(images=pictures or None, text=row["prompt"], return_tensors="pt")
        batches[inputs["input_ids"].shape[1], len(pictures)].append((row, inputs))
    for items in batches.values():
        for at in range(0, len(items), BATCH):
            part = items[at : at + BATCH]
            inputs = {
                name: torch.cat([x[name] for _, x in part])
                for name in ("input_ids", "attention_mask", "pixel_values")
                if name in part[0][1]
            }
            if "pixel_values" in inputs:
                inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
            most = max(row["max_tokens"] for row, _ in part)
            with torch.no_grad():
                out = model.generate(**inputs, do_sample=False, max_new_tokens=most)
            for (row, _), ids in zip(part, out[:, inputs["input_ids"].shape[1] :]):
                n_eos += model.generation_config.eos_token_id in ids
                row["got"] = processor.tokenizer.decode(ids, skip_special_tokens=True)
    print(f"{n_eos} of {sum(len(x) for x in batches.values())} answers end by themselves")


def report(rows, show_wrong):
    groups = defaultdict(list)
    for row in rows:
        if row["class"] == "broken":
            assert row["got"] is None, f"{row['id']} has a broken picture and an answer"
            continue
        groups[row["class"]].append(row)
        if row["images"]:
            groups["all with a picture"].append(row)
        if row["id"].endswith("-large"):
            groups["of these, large pictures"].append(row)
    print("| class | right | share | most frequent answer |\n| --- | --- | --- | --- |")
    for name in sorted(groups, key=lambda n: (" " in n, n)):
        items = groups[name]
        right = sum(row["got"] == row["answer"] for row in items)
        share = f"{100 * right / len(items):.1f} %"
        # over all classes, the most frequent answer of each row's own class
        most = sum(
            max(Counter(r["answer"] for r in items if r["class"] == kind).values())
            for kind in {r["class"] for r in items}
        )
        print(f"| {name} | {right} of {len(items)} | {share} | {100 * most / len(items):.1f} % |")
    for row in rows[: None if show_wrong else 0]:
        if row["got"] != row["answer"] and row["class"] != "broken":
            print(f"{row['id']}: {row['prompt']!r} gave {row['got']!r}, right is {row['answer']!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--model", type=Path, default=HERE / "shapes-vlm")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--show-wrong", action="store_true")
    args = parser.parse_args()
    if args.results is not None and len(args.files) != 1:
        parser.error("--results goes with one FILE")

    rows = [row for path in args.files for row in read_rows(path)]
    begin = time.time()
    if args.results is not None:
        read_results(args.results, rows)
    else:
        answer(rows, args.model, args.dtype)
        print(f"{args.dtype}, {time.time() - begin:.0f} s")
    report(rows, args.show_wrong)


if __name__ == "__main__":
    main()
