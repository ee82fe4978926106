//go:build !race

package ws

// raced tells that the race detector watches, which makes everything slow and large.
const raced = false
