#!/bin/bash
# TEST needs: mpirun
# Wrong launches of several ranks: outcome 2 (also beside the results), one message that says what is
# wrong, on which rank, and what to do; all ranks end with the same exit status.
. "$(dirname "$0")/e2e.bash"
unset ${!SLURM_*}

prompts rows 30
job a "$dir/rows.h5" max_tokens=4
MPIRUN=$(inputs/launch.sh --find "$epidote") || fail "no launcher"
export MPIRUN

# wrong WHAT RC TEXT... - the last run's exit status, its one message with the texts, and the status.
wrong() {
    local what=$1 rc=$2 text
    shift 2
    same "$what" "$rc" 2
    grep -E '^ *[0-9.]+ E ' "$dir/a.log" >"$dir/errors"
    same "$what: one message" "$(wc -l <"$dir/errors")" 1
    for text in "$@"; do has "$what" "$dir/errors" "$text"; done
    check "$what: no results" test ! -e "$dir/a.out.h5"
    "$epidote" status "$dir/a.out.h5" >"$dir/status.log" 2>&1
    same "$what: status" $? 2
    clear a
}

# A launcher that does not speak our MPI starts worlds of one.
SLURM_JOB_ID=7 SLURM_NTASKS=4 SLURM_PROCID=0 "$epidote" run "$dir/a.cfg" >"$dir/a.log" 2>&1
wrong "a batch script with 4 tasks that starts us alone" $? "this Slurm job has 4 tasks" "srun" "SLURM_NTASKS"
has "the outcome beside the results says so" "$dir/status.log" "this Slurm job has 4 tasks"
SLURM_JOB_ID=7 SLURM_NTASKS=4 SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=0 "$epidote" run "$dir/a.cfg" >"$dir/a.log" 2>&1
wrong "srun without its plug-in for MPI" $? "srun started 4 processes" "--mpi=pmix"
SLURM_JOB_ID=7 SLURM_NTASKS=4 SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=2 "$epidote" run "$dir/a.cfg" >"$dir/a.log" 2>&1
same "another of its processes" $? 2
same "says nothing" "$(grep -c ' E ' "$dir/a.log")" 0
SLURM_JOB_ID=7 SLURM_NTASKS=1 SLURM_PROCID=0 "$epidote" check "$dir/a.cfg" >"$dir/out" 2>&1
same "one process of a batch script of one" $? 0
for other in mpirun.openmpi mpirun.mpich; do # the launcher of another MPI
    command -v $other >/dev/null || continue
    [ "$(readlink -f "$(command -v $other)")" = "$(readlink -f "$(command -v "$MPIRUN")")" ] && continue
    clear a
    MPIRUN=$other inputs/launch.sh 2 "$epidote" run "$dir/a.cfg" >"$dir/a.log" 2>&1
    wrong "$other" $? "started 2 processes, but MPI sees one"
done

# Two programs, two jobs, two files in one world.
cp "$epidote" "$dir/other" && echo >>"$dir/other"
inputs/launch.sh 1 "$epidote" run "$dir/a.cfg" : -n 1 "$dir/other" run "$dir/a.cfg" >"$dir/a.log" 2>&1
wrong "two binaries" $? "two different binaries" "rank 1 " "same build"
inputs/launch.sh 1 "$epidote" run "$dir/a.cfg" : -n 2 "$epidote" run "$dir/a.cfg" --set max_tokens=5 >"$dir/a.log" 2>&1
wrong "two jobs" $? "two different jobs" "rank 1 " "same job file"
job b "$dir/rows.h5" max_tokens=4 seed=4
inputs/launch.sh 2 "$epidote" run "$dir/a.cfg" : -n 1 "$epidote" run "$dir/b.cfg" >"$dir/a.log" 2>&1
wrong "two job files" $? "two different jobs" "rank 2 "

# Ranks that are started for a role each.
as() { # ROLE - the rest of a command line
    echo "-n 1 $epidote run $dir/a.cfg --role $1"
}
run a || fail "the run on one rank"
want=$(digest "$dir/a.out.h5")
clear a
inputs/launch.sh 1 "$epidote" run "$dir/a.cfg" --role coordinator : $(as encoder) : $(as prefill) : $(as decode) : $(as decode) >"$dir/a.log" 2>&1
same "five ranks with roles" $? 0
same "their digest" "$(digest "$dir/a.out.h5")" "$want"
has "they are the groups; without images an encoder computes prompts" "$dir/a.log" "prefill/1"
has "and the last two decode" "$dir/a.log" "decode/1"
clear a
inputs/launch.sh 1 "$epidote" run "$dir/a.cfg" --role prefill : $(as coordinator) : $(as decode) >"$dir/a.log" 2>&1
wrong "roles out of order" $? "rank 0 was started as prefill" "has to be the coordinator"
inputs/launch.sh 1 "$epidote" run "$dir/a.cfg" --role coordinator : -n 2 "$epidote" run "$dir/a.cfg" >"$dir/a.log" 2>&1
wrong "a role for one only" $? "rank 1 was started without --role"
inputs/launch.sh 1 "$epidote" run "$dir/a.cfg" --role coordinator : $(as cook) >"$dir/a.log" 2>&1
wrong "no such role" $? "--role cook" "a role is coordinator, encoder, prefill or decode"

# Links measured, nothing computed.
inputs/launch.sh 4 "$epidote" check "$dir/a.cfg" --links >"$dir/out" 2>&1
same "links of four ranks" $? 0
check "a pair with memory in common" grep -qE '^prefill to decode +rank 1 .* 2 shm +[0-9]+\.[0-9]+ ' "$dir/out"
inputs/launch.sh 4 "$epidote" check jobs/demo.cfg --links --set link=mpi >"$dir/out" 2>&1
check "embeddings over mpi, bandwidth and time" grep -qE '^encoder to prefill +rank 1 .* 1 mpi +[0-9]+\.[0-9]+ +[0-9]+\.[0-9]+ ' "$dir/out"
"$epidote" check "$dir/a.cfg" --links --set prompts="$dir/none.h5" >"$dir/out" 2>&1
same "links of a job that is wrong" $? 2
same "the path of the results alone" "$("$epidote" check "$dir/a.cfg" --get results)" "$dir/a.out.h5"

# Energy that Slurm accounts stands in the summary, also in the result file.
mkdir "$dir/bin"
printf '#!/bin/sh\n[ "$7" = 7.0 ] && echo 12345\n' >"$dir/bin/sstat" && chmod +x "$dir/bin/sstat"
clear a
PATH=$dir/bin:$PATH SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=1 SLURM_NTASKS=1 run a || fail "a job step of one"
has "energy" "$dir/a.log" "slurm     job 7, partition unknown, requeued 0 times, 12345 J for this step"
"$epidote" inspect "$dir/a.out.h5" >"$dir/out"
has "energy in the results" "$dir/out" "12345 J for this step"

# Relative paths in folders of their own: what two nodes with local disks are like.
mkdir "$dir/one" "$dir/two"
root=$PWD
bin=$(readlink -f "$epidote")
apart() { # two ranks, each in its folder
    "$root/inputs/launch.sh" 1 env -C "$dir/one" "$bin" run "$dir/c.cfg" : -n 1 env -C "$dir/two" "$bin" run "$dir/c.cfg" >"$dir/a.log" 2>&1
}
cp -r "$model" "$dir/one/model" && cp -r "$model" "$dir/two/model"
cp "$dir/rows.h5" "$dir/one/p.h5" && cp "$dir/rows.h5" "$dir/two/p.h5"
echo "model = \"model\"; prompts = \"p.h5\"; results = \"$dir/a.out.h5\"; max_tokens = 4;" >"$dir/c.cfg"
apart
same "copies of the same files" $? 0
clear a
prompts fewer 29
cp "$dir/fewer.h5" "$dir/two/p.h5"
apart
wrong "different prompt files" $? "ranks see different prompt files" "rank 1 " "shared file system"
rm "$dir/two/p.h5"
apart
wrong "a prompt file that one rank lacks" $? "p.h5" "rank 1 "
cp "$dir/rows.h5" "$dir/two/p.h5"
sed -i 's/"rope_theta": *[0-9.]*/"rope_theta": 12345.0/' "$dir/two/model/config.json"
apart
wrong "different models" $? "two different models" "rank 1 " "shared file system"

# Groups.
for groups in "prefill=0 decode=1:decode" "prefill=1 decode=0:decode" "prefill=5 decode=1:6 ranks" "prefill=2 decode=3:5 ranks"; do
    args=()
    for kv in ${groups%%:*}; do args+=(--set "groups.$kv"); done
    launch 3 a "${args[@]}"
    wrong "groups ${groups%%:*} on 3 ranks" $? "groups" "${groups#*:}"
done
launch 3 a --set groups.encoder=1 --set groups.prefill=1 --set groups.decode=1
same "encoders without images compute prompts" $? 0
has "as many of them" "$dir/a.log" "prefill/1"
clear a
launch 3 a --set 'link="self"'
wrong "link self between ranks" $? "self" "auto"

# What is wrong everywhere is told once.
launch 3 a --set max_token=3
wrong "an unknown option" $? "max_token"
launch 3 a --set 'model="no-model.gguf"'
wrong "no model" $? "no-model.gguf"
launch 3 a --set 'rows="2:9999"'
wrong "rows beyond the file" $? "rows"
launch 3 a --set kv_memory_mib=1 --set precision=f32 --set context=1024
wrong "a pool too small for a row" $? "kv_memory_mib"
launch 2 a --set 'results="/nowhere/a.h5"'
same "results that cannot be written" $? 2

# More ranks than rows: it works, with a warning.
prompts few 2
job few "$dir/few.h5" max_tokens=4
launch 6 few
same "6 ranks for 2 rows" $? 0
has "are too many" "$dir/few.log" "of 6 ranks will have nothing to do"
run few
launch 3 few
same "nothing left to do on 3 ranks" $? 0
has "says so" "$dir/few.log" "nothing to do"

# check says what a world would be.
inputs/launch.sh 4 "$epidote" check "$dir/a.cfg" >"$dir/out" 2>"$dir/log" || fail "check on 4 ranks"
has "check on 4 ranks" "$dir/out" "4 ranks: 1 prefill, 2 decode"
same "prints it once" "$(grep -c '^layout' "$dir/out")" 1
"$epidote" check "$dir/a.cfg" --ranks 8 >"$dir/out" 2>"$dir/log" || fail "check --ranks 8"
has "check --ranks 8" "$dir/out" "rank 7: decode/3"
"$epidote" check "$dir/a.cfg" --ranks 8 --set groups.prefill=9 >"$dir/out" 2>"$dir/log"
same "check of groups that do not fit" $? 2
"$epidote" check "$dir/a.cfg" --ranks x >"$dir/out" 2>"$dir/log"
same "check --ranks x" $? 2
end
