// Package sim runs the production scheduler (loop, core, placement, leases) against a simulated world: a Mesos master,
// agents, executors, a network whose configured addresses are the truth, a ledger, users and a clock, all in one goroutine
// and all from one seed, so that every history can be had again. Edge: talks to nothing; a harness of the tests.
//
// # What is allowed to go wrong
//
// Messages are lost, delayed and come twice; calls fail with and without having been sent; the scheduler dies before a
// commit, within it, after it, between any two sends and acknowledgements; commits fail, also after they have worked.
// Agents crash, are cut off from the master, from the other hosts, or both; hosts lose power and return with the same or
// a new agent; executors die; programs exit; masters fail over with and without memory; offers are rescinded and
// spoiled; users scale, change, delete and declare meanwhile. Executors are told to leave for those of another version,
// while their containers go on; the programs of containers exit while nobody looks; pulls of images fail. Executors stall while
// the kernel's clock goes on; hosts have addresses of pools; the way to the master heals before the one to the other hosts.
//
// # What must hold, always
//
//   - No address is configured on a host while another host that can be reached from it has it configured. Two halves of a
//     divided network cannot know of each other; after it heals, one of the two is stopped. With leases not even they have
//     an address at the same time.
//   - No address is given to another slot before it has rested for as long as its pool says.
//   - Nothing is launched or killed that is not in the ledger as launched or stopped, with its leases and its executor, and
//     nothing is acknowledged before its consequence is.
//   - No task id is used twice. An address is leased once. No slot is launched while the master still reports its former
//     task alive.
//   - At every launch, for the tasks that truly exist: tenant isolation, dedication, Unique, MaxPer, Cluster, Like, Unlike.
//   - What the core has kept up by increments is what a core made from the ledger knows.
//   - The ExecutorInfo of an agent's running executor is repeated exactly, and no second one is started beside it.
//   - Nothing that serves is killed or discarded for a replacement that never ran, when its agent is back.
//   - No container is started beside one of the same slot that goes on, unless that was given up with its agent; and none is
//     stopped for another image before that is on its host.
//
// # What must hold once the faults have ended, within bounded time
//
// Exactly what is wanted runs and is ready, but for instances that truly fit nowhere, which say why; their bandwidths and
// loopback addresses are those wanted last, and each executor knows where all others of its overlays are; what hosts have
// themselves is known to be foreign, and nothing else is in conflict; no task runs, and
// no container goes on, that is not wanted; no container waits for an executor for long where there is room; all executors that can be are of the version offered; the ledger holds no
// lease and no record that is not needed; no offer is hoarded; and it stays so.
package sim
