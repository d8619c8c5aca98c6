# shellcheck shell=bash
#
# Makes a test node the machine of a cluster: /usr/local and the folders of containerd and kubelet are
# its own, and containerd is a service that its init script starts, so that install.sh can restart it.
#
# FOLDER is the node's own folder, SANDBOX the image of a pod's sandbox.

set -euo pipefail

umount /etc/portcullis /var/lib/portcullis
rmdir /etc/portcullis /var/lib/portcullis
mkdir -p "$FOLDER"/{local/upper,local/work,containerd,kubelet,etcd,pki,static} /var/lib/containerd /var/lib/kubelet
mount -t overlay -o "lowerdir=/usr/local,upperdir=$FOLDER/local/upper,workdir=$FOLDER/local/work" overlay /usr/local
# containerd's snapshots cannot lie on an overlay.
mount --bind "$FOLDER/containerd" /var/lib/containerd
mount --bind "$FOLDER/kubelet" /var/lib/kubelet
# What pods print.
mount -t tmpfs tmpfs /var/log

# The cluster's own services have an address without a proxy.
ip addr add 10.0.0.1/32 dev lo

mkdir -p /etc/containerd /etc/cni/net.d
cat >/etc/containerd/config.toml <<END
version = 2
# Makes a folder below /opt, which nobody needs here.
disabled_plugins = ["io.containerd.internal.v1.opt"]

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "$SANDBOX"
disable_apparmor = true
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/etc/cni/net.d"
END
cat >/etc/cni/net.d/pods.conflist <<'END'
{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [{
    "type": "bridge",
    "bridge": "pods0",
    "isDefaultGateway": true,
    "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.88.0.0/16" }]] }
  }]
}
END
cat >/etc/init.d/containerd <<END
#!/bin/sh
# As containerd's unit, for a machine without systemd.
start() {
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    setsid /usr/bin/containerd >>"$FOLDER/containerd.log" 2>&1 </dev/null &
    echo \$! >/run/containerd.pid
}
stop() {
    pid=\$(cat /run/containerd.pid) || return 0
    kill "\$pid" 2>/dev/null
    while [ -e "/proc/\$pid" ]; do sleep 0.05; done
}
case \$1 in
    start) start ;;
    stop) stop ;;
    restart) stop; start ;;
    *) exit 2 ;;
esac
END
chmod +x /etc/init.d/containerd

openssl genrsa -out "$FOLDER/pki/sa.key" 2048 2>/dev/null
openssl rsa -in "$FOLDER/pki/sa.key" -pubout -out "$FOLDER/pki/sa.pub" 2>/dev/null
cat >"$FOLDER/pki/tokens.csv" <<'END'
admin,admin,admin,system:masters
kubelet,system:node:n1,n1,system:nodes
controllers,controllers,controllers,system:masters
END
cat >"$FOLDER/pki/audit.yaml" <<'END'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - level: Metadata
    users: ["system:serviceaccount:portcullis-system:portcullis"]
  - level: None
END
for user in admin kubelet controllers; do
    cat >"$FOLDER/$user.kubeconfig" <<END
apiVersion: v1
kind: Config
clusters: [{ name: c, cluster: { server: "https://10.0.0.1", certificate-authority: "$FOLDER/pki/apiserver.crt" } }]
users: [{ name: u, user: { token: "$user" } }]
contexts: [{ name: c, context: { cluster: c, user: u } }]
current-context: c
END
done
cat >"$FOLDER/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
clusterDNS: [10.0.0.10]
staticPodPath: $FOLDER/static
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
oomScoreAdj: 0
authentication: { anonymous: { enabled: true }, webhook: { enabled: false } }
authorization: { mode: AlwaysAllow }
evictionHard: { "nodefs.available": "0%", "imagefs.available": "0%", "nodefs.inodesFree": "0%" }
imageGCHighThresholdPercent: 100
fileCheckFrequency: 1s
syncFrequency: 2s
nodeStatusUpdateFrequency: 2s
END
/etc/init.d/containerd start
