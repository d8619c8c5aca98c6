# shellcheck shell=bash
#
# Sourced by install.sh and by node.sh on a node: what is started from a pod or a session, and is to
# outlive it, must leave its cgroups. Needs warn.

# Puts this shell into the cgroups of the first process.
join_first_process() {
    local controllers path top
    while IFS=: read -r _ controllers path; do
        top=$(cgroup_top "${controllers%%,*}")
        # A hierarchy that is mounted nowhere holds nobody back.
        [[ -n $top ]] || continue
        { echo "$BASHPID" >"$top${path%/}/cgroup.procs"; } 2>/dev/null ||
            warn "what is started from here stays in a cgroup below $top, and ends with it"
    done </proc/1/cgroup
}

# Where the hierarchy with controller $1 is mounted, or that of version 2 if it is empty.
cgroup_top() {
    awk -v controller="$1" '
        {
            for (n = 7; n < NF && $n != "-"; n++);
            type = $(n + 1)
            options = "," $(n + 3) ","
        }
        $4 != "/" { next }
        controller == "" ? type == "cgroup2" : type == "cgroup" && index(options, "," controller ",") {
            print $5
            exit
        }
    ' /proc/self/mountinfo
}
