// Package lb decides where packets to a virtual address go: which real server owns which slot of a service's table, who
// owned it before, and what a director and a real server's host do with a frame. The eBPF programs of executor/lb/tcx do the
// same; this is the reference that they are compared with. See docs/design/0010-connections-that-stay.md. Pure.
package lb
