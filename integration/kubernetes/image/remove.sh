#!/bin/sh
# What the agent runs at its end if all of Portcullis is being deleted from the cluster.
exec /opt/portcullis/node.sh remove
