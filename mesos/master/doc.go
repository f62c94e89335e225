// Package master is a client of the v1 scheduler API of Mesos (protobuf on the wire), and of the one call of the
// operator API that we need. Edge: talks to Mesos masters over HTTP, and to ZooKeeper to find the leader.
package master
