#!/bin/bash
# TEST
# Chat templates from file to answer: a template of a file does what the model's own does, variables
# and tools reach it, its own errors and a missing date are error rows.
. "$(dirname "$0")/e2e.bash"

digest() {
    "$epidote" inspect --digest "$1" | tail -n 1 | awk '{ print $NF }'
}
errors() { # NAME - the error column
    "$epidote" export "$dir/$1.out.h5" "$dir/$1.jsonl" 2>"$dir/export.log"
    sed -nE 's/.*"error": ?"(([^"\\]|\\.)*)".*/\1/p' "$dir/$1.jsonl"
}

# The same answers by the model's own template and by one from a file that writes the same.
prompts rows 6
job own "$dir/rows.h5" chat=true max_tokens=8
check "run with the model's own" run own
cat >"$dir/same.jinja" <<'T'
{%- macro turn(role, content) -%}
    <|im_start|>{{ role }}{{ "\n" ~ content }}<|im_end|>{{ "\n" }}
{%- endmacro -%}
{%- for m in messages %}{{ turn(m.role, m["content"]) }}{% endfor -%}
{%- if add_generation_prompt %}{{ "<|im_start|>assistant\n" }}{% endif -%}
T
job file "$dir/rows.h5" chat=true max_tokens=8 chat_template="\"$dir/same.jinja\""
check "run with a file" run file
job chatml "$dir/rows.h5" chat=true max_tokens=8 chat_template='"chatml"'
check "run with chatml" run chatml
same "answers by the file and by chatml" "$(digest "$dir/file.out.h5")" "$(digest "$dir/chatml.out.h5")"

# Tools of a line, variables of job and row, the date.
cat >"$dir/tools.jsonl" <<'J'
{"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function", "function": {"name": "f"}}]}
{"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": {"k": "row"}}
{"messages": [{"role": "user", "content": "a"}]}
{"messages": {"messages": [{"role": "user", "content": "a"}], "tools": null}}
{"messages": [{"role": "critic", "content": "a"}]}
{"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}]}
J
check "import" "$epidote" import "$dir/tools.jsonl" "$dir/tools.h5" 2>"$dir/import.log"
printf '%s' '{{ raise_exception([tools, k, strftime_now("%d %b %Y")] | tojson) }}' >"$dir/say.jinja"
job say "$dir/tools.h5" chat_template="\"$dir/say.jinja\"" chat_template_kwargs='"{\"k\": \"job\"}"' chat_date='"2026-01-31"'
run say
errors say >"$dir/said"
cat >"$dir/want" <<'W'
the chat template refuses this conversation: [[{\"type\": \"function\", \"function\": {\"name\": \"f\"}}], \"job\", \"31 Jan 2026\"]
the chat template refuses this conversation: [null, \"row\", \"31 Jan 2026\"]
the chat template refuses this conversation: [null, \"job\", \"31 Jan 2026\"]
the chat template refuses this conversation: [null, \"job\", \"31 Jan 2026\"]
message 0 has the role \"critic\"; known are system, user, assistant, tool, developer, and those that the chat template names
message 0 has tool_calls, which template WHERE does not write
W
sed -i "s|WHERE|$dir/say.jinja|" "$dir/want"
check "what the template was given" diff "$dir/want" "$dir/said"

job nodate "$dir/tools.h5" chat_template="\"$dir/say.jinja\""
run nodate
errors nodate >"$dir/said"
has "no date" "$dir/said" 'chat_date = '
end
