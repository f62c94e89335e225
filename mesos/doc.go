// Package mesos holds the nouns of a Mesos scheduler and executor in plain Go: offers, tasks, statuses, calls and
// events. Only its sub-packages know the wire types; everything that decides works on these. Pure.
package mesos
