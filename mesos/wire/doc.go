// Package wire converts between the nouns of package mesos and the protobuf messages of Mesos, in both directions, and
// cuts RecordIO streams into frames. It reads and writes nothing by itself. Pure.
//
// The message types are those of mesos-go v0.0.11, which know Mesos 1.10. Fields that came later are dropped when an
// event is decoded; none of them is needed here.
package wire
