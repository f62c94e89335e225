// Package wire is what the embedded Mesos master and agents share on the network: the JSON form of protobuf messages
// as Mesos reads and writes it, content negotiation with the status codes and texts of Mesos, RecordIO event
// streams, and the link between agent and master. Edge: talks to HTTP connections.
package wire
