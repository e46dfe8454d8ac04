#!/usr/bin/env python3
"""make_templates.py - what transformers makes of conversations with the chat templates of well-known
models, as hashes; and of small templates of our own, as text.

    python3 tests/golden/templates/make_templates.py build/models/llama_cpp_files/templates

Needs PyPI's transformers 5, tokenizers, jinja2 and xxhash.  Reads conversations.json and own.json
beside it and writes there

expect.txt   a line for each template and conversation: template, conversation, XXH64 of the text
             that apply_chat_template gives, or "error"; "-" where the program refuses the row because
             the template does not write something that the row has (tools, tool calls, documents)
own.jsonl    template, variables, text or error
"""
import datetime as real_datetime
import json
import pathlib
import sys

import jinja2
import transformers
import xxhash
from tokenizers import Tokenizer, models
from transformers.utils import chat_template_utils

HERE = pathlib.Path(__file__).parent
DATE = (2026, 1, 31)


class FixedDate(real_datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(*DATE)


def refused(template, row):
    """What chat_messages.c does not pass on."""
    text = template
    if row.get("tools") and "tools" not in text:
        return True
    if row.get("documents") and "documents" not in text:
        return True
    if any(m.get("tool_calls") for m in row["messages"]) and "tool_calls" not in text:
        return True
    usual = ["system", "user", "assistant", "tool", "developer"]
    return any(m["role"] not in usual and f"'{m['role']}'" not in text and f'"{m["role"]}"' not in text
               for m in row["messages"])


def known(folder, rows):
    tok = transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()),
                                               bos_token="<s>", eos_token="</s>")
    with open(HERE / "expect.txt", "w") as out:
        for path in sorted(pathlib.Path(folder).glob("*.jinja")):
            template = path.read_text()
            for name, row in rows.items():
                if refused(template, row):
                    print(path.stem, name, "-", file=out)
                    continue
                try:
                    text = tok.apply_chat_template(
                        row["messages"], tools=row.get("tools"), documents=row.get("documents"),
                        chat_template=template, tokenize=False, add_generation_prompt=True,
                        **row.get("chat_template_kwargs", {}))
                    if len(sys.argv) > 2:
                        dump = pathlib.Path(sys.argv[2]) / f"{path.stem}.{name}"
                        dump.write_text(text)
                    said = xxhash.xxh64(text.encode()).hexdigest()
                except Exception as e:
                    if len(sys.argv) > 2:
                        (pathlib.Path(sys.argv[2]) / f"{path.stem}.{name}.err").write_text(repr(e))
                    said = "error"
                print(path.stem, name, said, file=out)


def own(cases):
    with open(HERE / "own.jsonl", "w") as out:
        for case in cases:
            line = {"template": case["template"], "variables": case.get("variables", {})}
            try:
                t = chat_template_utils._compile_jinja_template(case["template"])
                text = t.render(**json.loads(json.dumps(case.get("variables", {}))))
                # an address in it: nothing that could be the same twice
                line.update({"error": "address"} if " at 0x" in text else {"text": text})
            except jinja2.TemplateSyntaxError as e:
                line["refused"] = e.message
            except Exception as e:
                line["error"] = str(e)
            if case.get("refuse"): # what Jinja reads and this program does not
                line = {"template": line["template"], "refused": "outside the subset"}
            print(json.dumps(line, ensure_ascii=False), file=out)


def main():
    chat_template_utils.datetime = FixedDate
    rows = json.loads((HERE / "conversations.json").read_text())
    known(sys.argv[1], rows)
    if (HERE / "own.json").exists():
        own(json.loads((HERE / "own.json").read_text()))


main()
