// Package supervise keeps child processes running: it starts them, reaps them and every orphan (so that it can be
// process 1 of a PID namespace), restarts them with back-off and stops them in order. Edge: talks to processes.
package supervise
