#!/usr/bin/env bash
# A Slurm of one node on this machine, loopback only, for tests: `scripts/slurm_box.sh up FOLDER`, then
# `export SLURM_CONF=FOLDER/slurm.conf`; `scripts/slurm_box.sh down FOLDER` stops it. As root, on Debian or Ubuntu
# (packages slurmctld slurmd slurm-client munge, which are installed where they lack), without systemd or cgroups.
# Partition `low` is preempted by `high`: its tasks are requeued after ten seconds.
set -euo pipefail
DO=${1:?up or down}; BOX=$(realpath -m "${2:?a folder}")
export SLURM_CONF="$BOX/slurm.conf"

alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }
stop() {
  alive "$1" || return 0
  local number; number=$(cat "$1"); kill "$number"
  for _ in $(seq 40); do kill -0 "$number" 2>/dev/null || return 0; sleep 0.25; done
  kill -9 "$number" || true
}

if [ "$DO" = down ]; then
  if squeue -h >/dev/null 2>&1; then squeue -h -o %A | sort -u | xargs -r scancel || true; sleep 1; fi
  for daemon in slurmd slurmctld munged; do stop "$BOX/run/$daemon.pid"; done
  exit 0
fi

[ "$(id -u)" = 0 ] || { echo "slurm_box: needs root" >&2; exit 2; }
mkdir -p "$BOX"/{state,spool,log,run}
for command in slurmctld slurmd munged srun; do
  command -v "$command" >/dev/null && continue
  policy=/usr/sbin/policy-rc.d  # the packages' own scripts start nothing
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy; chmod +x $policy; trap 'rm -f /usr/sbin/policy-rc.d' EXIT; }
  { apt-get update; DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    slurmctld slurmd slurm-client munge; } >"$BOX/log/apt.log" 2>&1 || { tail "$BOX/log/apt.log" >&2; exit 1; }
  break
done

chmod 755 "$BOX"
[ -s "$BOX/run/munge.key" ] || (umask 077; head -c 1024 /dev/urandom >"$BOX/run/munge.key")
alive "$BOX/run/munged.pid" || munged --force --key-file="$BOX/run/munge.key" --socket="$BOX/run/munge.sock" \
  --pid-file="$BOX/run/munged.pid" --log-file="$BOX/log/munged.log" --seed-file="$BOX/run/munge.seed"

HOST=$(hostname -s)
MEMORY=$(($(awk '/MemTotal/{print $2}' /proc/meminfo) / 1024 - 512))
cat >"$SLURM_CONF" <<CONF
ClusterName=box
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$BOX/run/munge.sock,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort=16817
SlurmdPort=16818
SrunPortRange=16900-16999
SlurmctldParameters=preempt_send_user_signal
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=1,sched_interval=1,bf_interval=1,requeue_setup_env_fail
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
MinJobAge=600
ReturnToService=2
JobRequeue=1
SlurmctldTimeout=30
SlurmdTimeout=15
StateSaveLocation=$BOX/state
SlurmdSpoolDir=$BOX/spool
SlurmctldPidFile=$BOX/run/slurmctld.pid
SlurmdPidFile=$BOX/run/slurmd.pid
SlurmctldLogFile=$BOX/log/slurmctld.log
SlurmdLogFile=$BOX/log/slurmd.log
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$MEMORY State=UNKNOWN
PartitionName=low Nodes=$HOST Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=10 MaxTime=INFINITE State=UP
PartitionName=high Nodes=$HOST PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE State=UP
CONF
# 22.05 starts a plugin for control groups in any case, and dies of one that it does not find; later ones can do without.
version=$(slurmd -V | awk '{print $2}')
case $version in 2[0-2].*) plugin=cgroup/v1 ;; *) plugin=disabled ;; esac
echo "CgroupPlugin=$plugin" >"$BOX/cgroup.conf"

alive "$BOX/run/slurmctld.pid" || slurmctld -f "$SLURM_CONF"
alive "$BOX/run/slurmd.pid" || slurmd -f "$SLURM_CONF"
for _ in $(seq 60); do
  case $(sinfo -h -p low -o %T 2>/dev/null || true) in idle | mixed | allocated) echo "export SLURM_CONF=$SLURM_CONF"; exit 0 ;; esac
  sleep 0.5
done
echo "slurm_box: the node did not come up; see $BOX/log" >&2
exit 1
