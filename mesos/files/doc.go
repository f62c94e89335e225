// Package files reads the files of instances, their logs above all, where they are: in the sandbox on the host, by the
// READ_FILE call of the agent's operator API. Edge: talks to Mesos agents over HTTP.
package files
