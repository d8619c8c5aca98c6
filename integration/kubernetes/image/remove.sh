#!/bin/sh
# What the agent runs at its end if Portcullis is being deleted from the cluster: with the argument
# all, or agent, if the ConfigMap is still there.
exec /opt/portcullis/node.sh remove "$@"
