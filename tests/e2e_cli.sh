#!/bin/bash
# TEST
# The commands that are no runs: ids of a text and back, JSON lines in and out, what a file holds,
# help, and output that goes nowhere.
. "$(dirname "$0")/e2e.bash"

# Text to ids and back, byte for byte: spaces, CRLF, digits, several scripts, emoji, no last newline.
printf 'Hello 123  world\r\n\n  caf\303\251 \346\227\245\346\234\254 \360\237\230\200\t<|im_end|>\nlast' >"$dir/text"
tok() { "$epidote" tokenize --model "$model" "$@"; }
tok "$dir/text" >"$dir/ids" || fail "tokenize"
same "a line of ids per line" "$(wc -l <"$dir/ids")" 4
same "an empty line has no ids" "$(sed -n 2p "$dir/ids")" ""
tok --decode "$dir/ids" >"$dir/back" || fail "tokenize --decode"
{ cat "$dir/text"; echo; } >"$dir/want"
check "lines come back" cmp -s "$dir/back" "$dir/want"
tok --whole <"$dir/text" >"$dir/ids" || fail "tokenize --whole"
same "one line of ids" "$(wc -l <"$dir/ids")" 1
tok --whole --decode - <"$dir/ids" >"$dir/back" || fail "tokenize --whole --decode"
check "the whole text comes back" cmp -s "$dir/back" "$dir/text"

printf 'a\nb\0c\0' | tok --null >"$dir/ids" || fail "tokenize --null"
same "a text per NUL" "$(tr '\0' ';' <"$dir/ids" | tr -cd ';')" ";;"
tok --null --decode "$dir/ids" >"$dir/back" || fail "tokenize --null --decode"
same "texts with line breaks come back" "$(od -An -c "$dir/back" | tr -d ' ')" 'a\nb\0c\0'

printf 'good\nbad \377\n' | tok >"$dir/out" 2>"$dir/log"
same "invalid UTF-8" $? 2
has "names line and place" "$dir/log" "standard input:2:"
for ids in 'x' '1 2x' '-1' '1 999999999' '99999999999999999999'; do
    echo "$ids" | tok --decode >"$dir/out" 2>"$dir/log"
    same "ids $ids" $? 2
    has "names the id" "$dir/log" "is not a token id (0 to"
done
tok "$dir/nothing" 2>"$dir/log"
same "no such input" $? 2
has "names the input" "$dir/log" "$dir/nothing"
"$epidote" tokenize "$dir/text" 2>"$dir/log"
same "tokenize without a model" $? 2
has "says what is missing" "$dir/log" "--model"

# JSON lines in, answers out; fields of other names; a prompt a line; - for the standard streams.
printf '{"question": "one", "key": "a"}\n{"question": "two", "key": "b"}\n' >"$dir/in.jsonl"
"$epidote" import --prompt question --id key "$dir/in.jsonl" "$dir/p.h5" 2>"$dir/log" ||
    fail "import of chosen fields"
printf '{"prompt": "a", "temprature": 1}\n{"prompt": "b", "temprature": 2}\n' |
    "$epidote" import - "$dir/typo.h5" 2>"$dir/log" || fail "import of a misspelt field"
same "a misspelt field is named once" "$(grep -c 'field temprature is ignored' "$dir/log")" 1
printf 'one\ntwo\n' | "$epidote" import --lines - "$dir/lines.h5" 2>"$dir/log" || fail "import of lines"
job a "$dir/p.h5" max_tokens=3
check "a job on them" run a
"$epidote" export "$dir/a.out.h5" >"$dir/a.jsonl" || fail "export to standard output"
same "exported rows" "$(wc -l <"$dir/a.jsonl")" 2
has "their ids" "$dir/a.jsonl" '"b"'
"$epidote" export "$dir/a.out.h5" "$dir/b.jsonl" 2>"$dir/log" || fail "export to a file"
check "is the same" cmp -s "$dir/a.jsonl" "$dir/b.jsonl"
"$epidote" import --lines --id key "$dir/in.jsonl" "$dir/x.h5" 2>"$dir/log"
same "--lines with a field" $? 2
"$epidote" export "$dir/nothing" 2>"$dir/log"
same "export of nothing" $? 2
has "says what there is for broken runs" "$dir/log" "--partial"
"$epidote" status "$dir/a.out.h5" >"$dir/log" || fail "status of a finished run"
has "rows computed" "$dir/log" "attempts  1, 2 rows computed in all"
check "the job once more" run a
"$epidote" status "$dir/a.out.h5" >"$dir/log" || fail "status of a job run again"
check "claims nothing about attempts" test "$(grep -c computed "$dir/log")" = 0

# What must not be replaced: the input, and what is no file.
mkfifo "$dir/pipe"
for out in "$dir/a.out.h5" "$dir/pipe" "$dir"; do
    "$epidote" export "$dir/a.out.h5" "$out" 2>"$dir/log"
    same "export to $out" $? 2
    has "names it" "$dir/log" "$out: "
done
"$epidote" import "$dir/in.jsonl" "$dir/in.jsonl" --prompt question 2>"$dir/log"
same "import onto its input" $? 2
has "says so" "$dir/log" "input and output are the same file"
check "the pipe is still one" test -p "$dir/pipe"
check "the results are still there" "$epidote" inspect --digest "$dir/a.out.h5" >"$dir/out"

# What files hold.
for file in "$model" "$dir/p.h5" "$dir/a.out.h5"; do
    "$epidote" inspect "$file" >"$dir/out" 2>"$dir/log" || fail "inspect $file: $(cat "$dir/log")"
    check "inspect $file says something" test -s "$dir/out"
    same "digest of $file" "$("$epidote" inspect --digest "$file" | grep -cE '^[0-9a-f]{16}$')" 1
done
"$epidote" inspect "$dir/text" >"$dir/out" 2>"$dir/log"
same "inspect of a text" $? 2
has "names the file" "$dir/log" "$dir/text"

# check prints the effective job, which is a job file again.
"$epidote" check "$dir/a.cfg" --set results="$dir/c.h5" >"$dir/check" 2>"$dir/log" || fail "check"
sed -n '/^# a GGUF file/,$p' "$dir/check" >"$dir/again.cfg"
check "the effective job can be checked" "$epidote" check "$dir/again.cfg" >"$dir/check2" 2>"$dir/log"
sed -n '/^# a GGUF file/,$p' "$dir/check2" >"$dir/again2.cfg" # what is above tells free memory
check "and is the same" cmp -s "$dir/again.cfg" "$dir/again2.cfg"
check "check leaves nothing behind" test ! -e "$dir/c.h5.parts"

# The context is the file's unless the job lowers it, and check says which; written out it is the same job.
has "the file's context" "$dir/check" "context   1024 tokens, from the model's file"
"$epidote" check "$dir/a.cfg" --set results="$dir/c.h5" --set context=300 >"$dir/check" 2>"$dir/log" || fail "check"
has "the job's context" "$dir/check" "context   300 tokens, from the job; the model was made for 1024"
check "the file's context written out" run a --set context=1024
has "is the same job" "$dir/a.log" "is complete: nothing to do"
run a --set context=1000
same "another is another job" $? 2
has "and is named" "$dir/a.log" "context: ours 1000, theirs 1024"

# A scaling of RoPE is named.
cp -r "$model" "$dir/scaled"
scaled='"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,'
sed -i "s/\"rope_type\": \"default\"/$scaled \"original_max_position_embeddings\": 128/" "$dir/scaled/config.json"
"$epidote" check "$dir/a.cfg" --set results="$dir/c.h5" --set "model=\"$dir/scaled\"" >"$dir/check" 2>"$dir/log" || fail "check"
has "RoPE's scaling" "$dir/check" "RoPE scaled: llama3, wavelengths up to 8 times as long"

# Of several tokens that end an answer the second does, too.
prompts eos 2
job eos "$dir/eos.h5" max_tokens=8
cp -r "$model" "$dir/ends"
sed -i 's/"eos_token_id": 2/"eos_token_id": [2, 223]/' "$dir/ends/config.json" "$dir/ends/generation_config.json"
check "a model with two of them" run eos --set "model=\"$dir/ends\""
"$epidote" export "$dir/eos.out.h5" >"$dir/eos.jsonl" 2>"$dir/log" || fail "export"
has "the second stops the first row" "$dir/eos.jsonl" '"id":"count-000","finish_reason":"stop","text":"55"'
has "and the second row" "$dir/eos.jsonl" '"id":"from-001","finish_reason":"stop","text":"52"'

# A GGUF file of a vocabulary and nothing else: keys tokenizer.ggml.model, .tokens, .merges.
u64() { printf "\\x$(printf %x $(($1 & 255)))\\x$(printf %x $(($1 >> 8)))\0\0\0\0\0\0"; }
str() { u64 ${#1} && printf %s "$1"; }
list() { printf '\11\0\0\0\10\0\0\0' && u64 $# && for word; do str "$word"; done; }
{
    printf 'GGUF\3\0\0\0' && u64 0 && u64 4
    str tokenizer.ggml.model && printf '\10\0\0\0' && str gpt2
    str tokenizer.ggml.pre && printf '\10\0\0\0' && str gpt-2
    str tokenizer.ggml.tokens && list a b ab abb
    str tokenizer.ggml.merges && list "a b" "ab b"
} >"$dir/vocab.gguf"
printf 'abba' | "$epidote" tokenize --model "$dir/vocab.gguf" >"$dir/out" 2>"$dir/log" || fail "tokenize by a vocabulary-only file"
same "its ids" "$(cat "$dir/out")" "3 0"

# Help and version; output that cannot be written is an error.
"$epidote" help >"$dir/out" || fail "help"
for command in run check status inspect import export report tokenize help; do
    has "help" "$dir/out" "epidote $command"
    "$epidote" help $command >"$dir/one" || fail "help $command"
    has "help $command" "$dir/one" "usage: epidote $command"
done
"$epidote" --version >"$dir/out" || fail "--version"
has "--version" "$dir/out" "libhdf5"
for command in help "help job" --version "inspect $dir/p.h5" "export $dir/a.out.h5" "report $dir/a.out.h5"; do
    $epidote $command >/dev/full 2>"$dir/log"
    same "$command to a full device" $? 4
done
seq 20000 | { tok 2>"$dir/log"; echo $? >"$dir/code"; } | head -n 1 >"$dir/out"
same "a reader that has gone" "$(cat "$dir/code")" 4
has "is told" "$dir/log" "Broken pipe"
end
