// Package version holds what the linker knows of the build. Pure.
package version

// Version is the release; the build sets it with -ldflags -X.
var Version = "unknown"
