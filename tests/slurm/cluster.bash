# cluster.bash - real Slurm daemons on this host: munged, slurmctld and four slurmd; sourced, not run.
#
#   cluster_start DIR     in DIR; exports SLURM_CONF.  Returns 77, and says why, where they cannot be had.
#   cluster_stop          ends them, and all that they have started
#   node_kill NAME        a node dies: its slurmd and everything it has started, at once
#   node_start NAME
#
# All run as this user, on ports of their own, with a key of their own; nothing outside DIR is touched.
cluster_nodes='n1 n2 n3 n4'

# Debian puts daemons where PATH of a user does not look.
PATH=$PATH:/usr/sbin:/sbin

cluster_start() {
    local dir=$1 command node port user base
    for command in munged slurmctld slurmd srun sbatch; do
        command -v $command >/dev/null || { echo "no $command here (Debian: slurm-wlm, munge)"; return 77; }
    done
    cluster_dir=$dir
    user=$(id -un)
    base=$((20000 + $$ % 20000))
    mkdir -p "$dir/state" "$dir/log"
    head -c 1024 /dev/urandom >"$dir/munge.key" && chmod 400 "$dir/munge.key"
    munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" --pid-file="$dir/munged.pid" \
        --log-file="$dir/log/munged.log" --seed-file="$dir/munge.seed" || return 1
    # Nodes are on one host, and Open MPI names the memory of a node's ranks by host and rank of the node: each
    # node has a folder of its own for it.
    cat >"$dir/prolog" <<P
#!/bin/sh
echo export OMPI_MCA_btl_vader_backing_directory=$dir/tmp.\$SLURMD_NODENAME
echo export UCX_POSIX_DIR=$dir/tmp.\$SLURMD_NODENAME
P
    chmod +x "$dir/prolog"
    # What is short here takes minutes by default: a node that is lost (SlurmdTimeout 300 s), a job that was put
    # into the queue again (cred_expire 120 s), processes that do not end (KillWait 30 s).
    cat >"$dir/slurm.conf" <<C
ClusterName=epidote$base
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket,cred_expire=5
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog=$dir/prolog
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmctldPort=$base
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.%n.log
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool.%n
TmpFS=$dir/tmp.%n
SlurmdParameters=config_overrides
SlurmdTimeout=6
SlurmctldTimeout=6
KillWait=2
MinJobAge=600
ReturnToService=2
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,bf_interval=1
NodeName=n[1-4] NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=[$((base + 1))-$((base + 4))] CPUs=4 RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes=n[1-4] Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
C
    export SLURM_CONF=$dir/slurm.conf
    unset "${!SLURM_JOB@}" "${!SBATCH_@}"
    slurmctld -c || return 1
    for node in $cluster_nodes; do node_start "$node" || return 1; done
    for ((i = 0; i < 100; i++)); do
        [ "$(sinfo -h -t idle -o %D 2>/dev/null)" = 4 ] && return 0
        sleep 0.1
    done
    echo "the nodes do not come up: $(sinfo -h 2>&1 | tr '\n' ' ')"
    tail -n 3 "$dir"/log/* >&2
    return 1
}

node_start() { # NAME
    mkdir -p "$cluster_dir/spool.$1" "$cluster_dir/tmp.$1"
    slurmd -N "$1"
}

# below PID - it and all processes that it has started.
below() {
    local child
    echo "$1"
    for child in $(pgrep -P "$1"); do below "$child"; done
}

# of_node NAME - the slurmstepds of this cluster's node: those that have started something there.  Other clusters on
# this host may have nodes of the same name.
of_node() { # NAME
    local step pid environment
    for step in $(pgrep -x slurmstepd); do
        for pid in $(below "$step"); do
            environment=$(tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ")
            grep -qx "SLURMD_NODENAME=$1" <<<"$environment" && grep -qx "SLURM_CONF=$cluster_dir/slurm.conf" <<<"$environment" &&
                echo "$step" && break
        done
    done
}

node_kill() { # NAME
    local step
    kill -9 "$(cat "$cluster_dir/slurmd.$1.pid")"
    for step in $(of_node "$1"); do kill -9 $(below "$step") 2>/dev/null; done
    true
}

cluster_stop() {
    local node file pid i
    [ -n "${cluster_dir:-}" ] || return 0
    scancel -u "$(id -un)" 2>/dev/null
    sleep 1
    for node in $cluster_nodes; do
        for pid in $(of_node "$node"); do kill -9 $(below "$pid") 2>/dev/null; done
    done
    for file in "$cluster_dir"/slurmd.*.pid "$cluster_dir/slurmctld.pid" "$cluster_dir/munged.pid"; do
        [ -e "$file" ] || continue
        pid=$(cat "$file")
        kill "$pid" 2>/dev/null
        for ((i = 0; i < 50; i++)); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    done
    true
}
