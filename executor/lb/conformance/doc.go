// Package conformance is one suite for all dataplanes of executor/lb, in its tests: a client, a router, two directors and five
// real servers, each a network namespace, and real traffic of both families. What the machine's kernel can do is tried with
// that; what it may lack, in a kernel of the tests' own (tests/kernel). A new dataplane is a row of subjects. Pure.
package conformance
