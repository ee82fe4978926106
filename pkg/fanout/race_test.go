//go:build race

package fanout

// raced tells that the race detector watches.
const raced = true
