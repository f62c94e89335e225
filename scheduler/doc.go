// Package scheduler is the framework's loop: it takes in what happened, lets the core decide, persists, sends and
// acknowledges, in this order. Edge: talks to the Mesos master and the ledger through interfaces of its own.
//
// A turn is synchronous and is all there is between an event and its effects: Turn steps the core, commits every write
// of the step as one, sends the calls, then acknowledges. A crash between any two of these loses nothing: what is
// durable and was not sent is asked for by reconciliation and decided anew; an update that was not acknowledged comes again.
//
// If a commit fails, nothing is sent, and the core is ahead of the ledger. The same writes are committed again before
// anything else is done, so that it never gets further ahead than one turn. They are whole records, so committing twice
// what was committed after all changes nothing.
package scheduler
