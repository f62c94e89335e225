// Package hosts makes one machine look like several: it runs embedded hosts, each with its own network stack, mounts
// and processes, and plugs them into a management network and a virtual switch. Edge: talks to the kernel (namespaces,
// control groups, rtnetlink).
//
// Everything lives in the namespaces of one process, which is process 1 of its PID namespace: when it ends, however it
// ends, the kernel removes processes, interfaces and mounts. Nothing is given a name outside of them but the control
// groups of containers, which belong to the machine: they are removed at an orderly end, else by the next tree on the
// same data directory.
package hosts
