// Package why answers "why is it not running?": from what the API says of an App, its instances, pools, agents and
// events to a tree that a person reads from the top down. Pure.
package why
